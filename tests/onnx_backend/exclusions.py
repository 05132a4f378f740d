"""Cases that ONNX Runtime itself does not pass, and why.

The package's own runner knows no exceptions: every backend brings its list. It also compares
random numbers with those of NumPy's generator, so no backend passes these cases.

Tests hold each case to end in the same way, and with the same outputs, when ONNX Runtime's own
Python module runs it. Models whose inputs or outputs are no tensors of a served type are not
listed: what the model declares decides.
"""

from dataclasses import dataclass

from onnx_backend.outcome import End

# Of the lists below. Other versions pass other cases.
ONNX = "1.23.2"
ONNXRUNTIME = "1.32.0"
MACHINE = "x86_64"  # the last digits depend on it


@dataclass(frozen=True)
class Exclusion:
    """Cases that end alike, for one reason.

    may_pass: on a machine that has what others lack.
    """

    reason: str
    end: End
    names: frozenset[str]
    may_pass: bool = False


def _excluded(end: End, reason: str, names: str, *, may_pass: bool = False) -> Exclusion:
    return Exclusion(reason, end, frozenset(names.split()), may_pass)


EXCLUSIONS = (
    _excluded(
        "load",
        "opset older than any kernel of ONNX Runtime",
        """
        test_AvgPool1d test_AvgPool1d_stride test_AvgPool2d test_AvgPool2d_stride test_AvgPool3d
        test_AvgPool3d_stride test_AvgPool3d_stride1_pad0_gpu_input test_BatchNorm1d_3d_input_eval
        test_BatchNorm2d_eval test_BatchNorm2d_momentum_eval test_BatchNorm3d_eval
        test_BatchNorm3d_momentum_eval test_GLU test_GLU_dim test_Linear test_PReLU_1d
        test_PReLU_1d_multiparam test_PReLU_2d test_PReLU_2d_multiparam test_PReLU_3d
        test_PReLU_3d_multiparam test_PoissonNLLLLoss_no_reduce test_Softsign
        test_operator_add_broadcast test_operator_add_size1_broadcast
        test_operator_add_size1_right_broadcast test_operator_add_size1_singleton_broadcast
        test_operator_addconstant test_operator_addmm test_operator_basic test_operator_mm
        test_operator_non_float_params test_operator_params test_operator_pow
        """,
    ),
    _excluded(
        "load",
        "operator, or opset of it, that ONNX Runtime does not have",
        """
        test_bitcast_bool_to_uint8 test_dequantizelinear test_dequantizelinear_axis
        test_dequantizelinear_blocked test_dequantizelinear_int16 test_dequantizelinear_uint16
        test_image_decoder_decode_bmp_rgb test_image_decoder_decode_jpeg2k_rgb
        test_image_decoder_decode_jpeg_bgr test_image_decoder_decode_jpeg_grayscale
        test_image_decoder_decode_jpeg_rgb test_image_decoder_decode_png_rgb
        test_image_decoder_decode_pnm_rgb test_image_decoder_decode_tiff_rgb
        test_image_decoder_decode_webp_rgb test_optional_get_element_tensor
        test_optional_has_element_empty_no_input_name_optional_input
        test_optional_has_element_empty_no_input_name_tensor_input
        test_optional_has_element_empty_no_input_optional_input
        test_optional_has_element_empty_no_input_tensor_input test_quantizelinear
        test_quantizelinear_axis test_quantizelinear_blocked_asymmetric
        test_quantizelinear_blocked_symmetric test_quantizelinear_int16 test_quantizelinear_uint16
        test_roialign_aligned_false test_roialign_aligned_true test_roialign_mode_max test_swiglu
        test_swiglu_alpha test_swiglu_alpha_expanded test_swiglu_expanded
        """,
    ),
    _excluded(
        "load",
        "ONNX Runtime lacks the kernel for this element type",
        """
        test_attention_3d_causal_bf16 test_attention_3d_causal_bf16_expanded
        test_attention_4d_attn_mask_causal_bf16 test_attention_4d_attn_mask_causal_bf16_expanded
        test_attention_4d_causal_bf16 test_attention_4d_causal_bf16_expanded
        test_attention_4d_causal_padded_kv_bf16 test_attention_4d_causal_padded_kv_bf16_expanded
        test_attention_4d_padded_kv_bf16 test_attention_4d_padded_kv_bf16_expanded
        test_celu_bfloat16_expanded test_max_int16 test_max_uint16 test_min_int16 test_min_uint16
        test_onehot_with_bfloat16_values test_pow_types_float32_uint32 test_pow_types_float32_uint64
        test_swiglu_float16 test_swiglu_float16_expanded test_top_k_uint64
        """,
    ),
    _excluded(
        "load",
        "operator of a preview domain that ONNX Runtime does not have",
        """
        test_adagrad test_adagrad_multiple test_adam test_adam_multiple test_flexattention
        test_flexattention_causal_mask test_flexattention_diff_head_sizes test_flexattention_double
        test_flexattention_fp16 test_flexattention_gqa test_flexattention_prob_mod
        test_flexattention_relative_positional test_flexattention_scaled
        test_flexattention_score_mod test_flexattention_soft_cap test_gradient_of_add
        test_gradient_of_add_and_mul test_momentum test_momentum_multiple test_nesterov_momentum
        """,
    ),
    _excluded(
        "load",
        "ONNX Runtime wants the locale en_US.UTF-8, which a small system lacks",
        """
        test_strnorm_model_monday_casesensintive_lower
        test_strnorm_model_monday_casesensintive_upper test_strnorm_model_monday_empty_output
        test_strnorm_model_monday_insensintive_upper_twodim
        test_strnormalizer_export_monday_casesensintive_lower
        test_strnormalizer_export_monday_casesensintive_upper
        test_strnormalizer_export_monday_empty_output
        test_strnormalizer_export_monday_insensintive_upper_twodim
        """,
        may_pass=True,
    ),
    _excluded(
        "load",
        "random numbers, and ONNX Runtime lacks the kernel",
        """
        test_bernoulli test_bernoulli_double test_bernoulli_double_expanded test_bernoulli_expanded
        test_bernoulli_seed test_bernoulli_seed_expanded
        """,
    ),
    _excluded(
        "load",
        "ONNX Runtime has recurrent layers with the batch second only",
        """
        test_gru_batchwise test_lstm_batchwise test_simple_rnn_batchwise
        """,
    ),
    _excluded(
        "run",
        "ONNX Runtime's kernel refuses these inputs",
        """
        test_attention_4d_diff_heads_mask4d_padded_kv test_convinteger_with_padding
        test_reduce_max_empty_set_bool
        """,
    ),
    _excluded(
        "numbers",
        "rounding: zeros are expected, and atol is 1e-7",
        """
        test_dft test_dft_axis test_dft_axis_opset19 test_dft_inverse test_dft_inverse_opset19
        test_dft_irfft test_dft_irfft_opset19 test_dft_opset19 test_dft_rfft test_dft_rfft_opset19
        test_stft test_stft_with_window
        """,
        may_pass=True,
    ),
    _excluded(
        "numbers",
        "ONNX Runtime computes something else",
        """
        test_attention_4d_with_past_and_present_qk_matmul_bias_3d_mask_causal
        test_attention_4d_with_past_and_present_qk_matmul_bias_4d_mask_causal
        test_maxunpool_export_with_output_shape test_resize_downsample_scales_cubic_align_corners
        test_resize_downsample_scales_linear_align_corners
        """,
    ),
    _excluded(
        "numbers",
        "random numbers: the expected ones are of NumPy's generator",
        """
        test_training_dropout test_training_dropout_default test_training_dropout_default_mask
        test_training_dropout_mask
        """,
    ),
    _excluded(
        "numbers",
        "rounding: one unit in the last place of float16",
        """
        test_attention_4d_causal_fp16
        """,
        may_pass=True,
    ),
)

BY_NAME = {name: exclusion for exclusion in EXCLUSIONS for name in exclusion.names}
assert len(BY_NAME) == sum(len(exclusion.names) for exclusion in EXCLUSIONS)
