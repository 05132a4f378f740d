"""The gRPC front end: the Open Inference Protocol over grpcio's synchronous server."""

from __future__ import annotations

import contextlib
import errno
import ssl
import time
from typing import TYPE_CHECKING

import grpc

from pyruntime.errors import InvalidInput
from pyruntime.frontends.address import TcpAddress, UnixAddress, parse_address
from pyruntime.frontends.grpc_calls import GrpcCalls

if TYPE_CHECKING:
    from pyruntime.frontends import FrontEndOptions, TlsFiles
    from pyruntime.frontends.address import Address
    from pyruntime.runtime import Runtime

# After the last answer was given to gRPC, for slow clients to receive it: seconds, at least.
_DELIVERY_S = 1.0


class GrpcServer:
    """See FrontEnd, whose contract this keeps."""

    def __init__(self, runtime: Runtime, options: FrontEndOptions) -> None:
        if not 0 < options.max_message_bytes < 1 << 31:
            raise InvalidInput(
                f"max_message_bytes: expected 1 to {(1 << 31) - 1}, got {options.max_message_bytes}"
            )
        for name in ("max_inferences", "max_streams"):
            if (value := getattr(options, name)) < 1:
                raise InvalidInput(f"{name}: expected at least 1, got {value}")
        self._wanted = [parse_address(address) for address in options.addresses]
        self._credentials = _server_credentials(options.tls) if options.tls else None
        # Of who started the server alone: nobody listens before start() has bound all.
        self._is_private = options.management is not None and options.management.is_only
        self._calls = GrpcCalls(runtime, options)
        self._server = grpc.server(
            self._calls.refusal_threads,
            handlers=[self._calls],
            options=(
                ("grpc.max_receive_message_length", options.max_message_bytes),
                ("grpc.max_send_message_length", -1),
                ("grpc.so_reuseport", 0),  # two servers on one port are a mistake
            ),
        )
        self._bound: list[Address] = []
        self._deadline = time.monotonic()  # of a finished drain(): clients may still receive
        self._is_stopped = False

    def start(self) -> None:
        """Listen and answer. Raises OSError, naming the address."""
        try:
            for address in self._wanted:
                self._bound.append(self._bind(address))
        except OSError:
            self._server.start()  # only a started one can give back the ports that it has
            self.stop()
            raise
        self._server.start()

    @property
    def addresses(self) -> tuple[str, ...]:
        """Where it listens, with the ports that the system chose."""
        return tuple(str(address) for address in self._bound)

    def drain(self, timeout_s: float) -> bool:
        """Tell health checks, refuse new inferences, wait for the answers that are due."""
        deadline = time.monotonic() + timeout_s
        is_idle = self._calls.drain(deadline)
        self._deadline = deadline
        return is_idle

    def stop(self) -> None:
        """Cancel what is left, and give back ports, socket files and threads."""
        if self._is_stopped:
            return
        self._is_stopped = True
        self._calls.drain(time.monotonic())
        self._calls.end_watches()
        grace_s = max(self._deadline - time.monotonic(), _DELIVERY_S)
        try:
            self._server.stop(grace_s).wait()
        except BaseException:  # whoever waits has lost patience
            self._server.stop(None)
            raise
        self._calls.close()
        for address in self._bound:
            if isinstance(address, UnixAddress):
                with contextlib.suppress(FileNotFoundError):
                    address.path.unlink()

    def _bind(self, address: Address) -> Address:
        if reason := address.why_unusable():
            raise OSError(errno.EADDRINUSE, f"cannot listen on {address}: {reason}")
        try:
            if isinstance(address, TcpAddress) and self._credentials is not None:
                port = self._server.add_secure_port(str(address), self._credentials)
            else:
                port = self._server.add_insecure_port(str(address))
        except RuntimeError as error:
            reason = address.why_unusable() or str(error)
            raise OSError(errno.EADDRINUSE, f"cannot listen on {address}: {reason}") from None
        if isinstance(address, TcpAddress):
            return TcpAddress(address.host, port)
        if self._is_private:
            address.path.chmod(0o600)
        return address


def _server_credentials(tls: TlsFiles) -> grpc.ServerCredentials:
    """Read and check the PEM files; gRPC itself would complain only to a log, later."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    try:
        chain, key = tls.certificate.read_bytes(), tls.key.read_bytes()
        client_ca = tls.client_ca.read_bytes() if tls.client_ca else None
    except OSError as error:
        raise InvalidInput(f"TLS file {error.filename}: {error.strerror}") from None
    try:
        context.load_cert_chain(tls.certificate, tls.key, password="")
    except (ssl.SSLError, ValueError) as error:
        raise InvalidInput(
            f"TLS files {tls.certificate} and {tls.key}: "
            f"expected a PEM certificate and its unencrypted key: {error}"
        ) from None
    if tls.client_ca:
        try:
            context.load_verify_locations(tls.client_ca)
        except ssl.SSLError as error:
            raise InvalidInput(f"TLS file {tls.client_ca}: expected PEM: {error}") from None
    return grpc.ssl_server_credentials(
        [(key, chain)], root_certificates=client_ca, require_client_auth=client_ca is not None
    )
