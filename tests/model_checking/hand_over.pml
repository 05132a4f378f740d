/* The ownership hand-over of csrc/schedule/scheduler.cc and instance.h, for a
 * device that the host waits for (one slot) and without max_delay.
 *
 * Blocking callers (infer), one that gives up at a deadline among them, and
 * asynchronous ones (submit), of which each may cancel, bring a request each.
 * Checked in every order of their steps: an instance has one owner at a time,
 * each request is answered once, and all threads come to their end, that is, no
 * request is left behind while everyone sleeps.
 *
 * Not in here: memory orders (a step sees all that came before it), the rings'
 * and the eventcount's own steps (models of their own, or tests), what max_delay
 * adds.
 *
 * Macros that leave out an essential step:
 *   NO_SECOND_LOOK       an owner gives up and does not look at the queue again
 *   NO_LOOK_BEFORE_SLEEP a resident announces its sleep and does not look again
 *   NO_LAST_TRY          a seeker that stops seeking does not try once more
 *   NO_NOTICE_WHEN_DONE  a seeker that was answered leaves the rest to nobody
 *   NO_CARRY_STATE       an instance given up does not say that it has a carry
 *   CARRY_TO_SEEKER      a carry is left to a seeker, who looks for any instance
 *   SPLIT_OWN            owning is a look and a store
 *   NO_NOTIFY            submit() wakes nobody
 */
#ifndef INSTANCES
#define INSTANCES 1
#endif
#ifndef BLOCKING
#define BLOCKING 2
#endif
#ifndef SUBMITTED
#define SUBMITTED 1
#endif
#define REQUESTS (BLOCKING + SUBMITTED)
#define INLINE_BATCHES 1
#define NONE 255
#define IS_EMPTY (len(queue) == 0)

mtype = { kFree, kOwned, kFreeWithCarry };
mtype = { kBuilding, kQueued, kRunning, kDone };

chan queue = [REQUESTS] of { byte };
mtype state[REQUESTS] = kBuilding;
mtype ownership[INSTANCES] = kFree;
byte carry[INSTANCES] = NONE;
byte owners[INSTANCES];     /* for the assertion */
byte seekers;
byte answered;
bool stopping;

/* Where resident i sleeps: it has announced itself; someone has notified it. */
bool announced[INSTANCES];
bool notified[INSTANCES];

inline notify(at) {
  d_step { if :: announced[at] -> notified[at] = true :: else fi }
}

inline try_own(at, got) {
#ifdef SPLIT_OWN
  got = ownership[at] != kOwned;
  if :: got -> ownership[at] = kOwned :: else fi;
#else
  d_step { got = ownership[at] != kOwned; ownership[at] = kOwned };
#endif
  d_step { if :: got -> owners[at]++; assert(owners[at] == 1) :: else fi }
}

inline disown(at) {
  d_step {
    owners[at]--;
#ifdef NO_CARRY_STATE
    ownership[at] = kFree
#else
    ownership[at] = (carry[at] == NONE -> kFree : kFreeWithCarry)
#endif
  }
}

/* Moves the request out of kQueued and answers it; two steps, as another may see
 * it running. */
inline claim(request, got) {
  d_step {
    got = state[request] == kQueued;
    if :: got -> state[request] = kRunning :: else fi
  }
}

inline answer(request) {
  d_step { assert(state[request] == kRunning); state[request] = kDone; answered++ }
}

/* Scheduler::form(): up to two members; one taken out that does not fit is
 * carried. formed: whether any is left to run. */
inline form(at) {
  formed = false;
  do
  :: formed -> break
  :: else ->
     first = NONE; second = NONE;
     if
     :: carry[at] != NONE -> d_step { first = carry[at]; carry[at] = NONE }
     :: else -> if :: queue ? first :: IS_EMPTY fi
     fi;
     if
     :: first == NONE -> break
     :: else
     fi;
     if
     :: skip                             /* full */
     :: queue ? second ->
        if
        :: skip                          /* it fits */
        :: d_step { carry[at] = second; second = NONE }
        fi
     fi;
     claim(first, got);
     d_step { if :: !got -> first = NONE :: else fi };
     if
     :: second != NONE ->
        claim(second, got);
        d_step { if :: !got -> second = NONE :: else fi }
     :: else
     fi;
     formed = first != NONE || second != NONE
  od
}

inline pass_on(mine) {
#if INSTANCES > 1
  if
  :: !IS_EMPTY -> if :: ownership[1 - mine] != kOwned -> notify(1 - mine) :: else fi
  :: IS_EMPTY
  fi
#else
  skip
#endif
}

inline run_batch(at) {
  pass_on(at);
  if :: first != NONE -> answer(first) :: else fi;
  if :: second != NONE -> answer(second) :: else fi;
  d_step { first = NONE; second = NONE }
}

inline give_up(at) {
  has_carry = carry[at] != NONE;
  disown(at);
#ifndef NO_SECOND_LOOK
  if
  :: !has_carry && IS_EMPTY
  :: else ->
     if
#ifdef CARRY_TO_SEEKER
     :: seekers != 0
#else
     :: !has_carry && seekers != 0
#endif
     :: else -> notify(at)
     fi
  fi;
#endif
  has_carry = false
}

inline run_inline(at, mine) {
  batches = 0;
  do
  :: batches == INLINE_BATCHES -> break
  :: else ->
     form(at);
     if
     :: !formed -> break
     :: else -> run_batch(at); batches++
     fi;
     if
     :: state[mine] == kDone && carry[at] == NONE && IS_EMPTY -> break
     :: else
     fi
  od;
  d_step { batches = 0; formed = false; got = false };
  give_up(at)
}

/* Scheduler::try_own(): each instance in turn. */
inline try_own_any(at) {
  at = 0;
  do
  :: at == INSTANCES -> break
  :: else ->
     try_own(at, got);
     if :: got -> break :: else -> at++ fi
  od
}

inline notify_residents() {
  at = 0;
  do
  :: at == INSTANCES -> break
  :: else -> if :: ownership[at] != kOwned -> notify(at); break :: else -> at++ fi
  od
}

proctype Blocking(byte mine; bool has_deadline) {
  byte first = NONE, second = NONE, at, batches;
  bool got, formed, has_carry;

  d_step { state[mine] = kQueued; queue ! mine };
  try_own_any(at);
  if :: at < INSTANCES -> run_inline(at, mine) :: else fi;
  if
  :: state[mine] == kDone -> goto answered_
  :: else
  fi;

  /* await() */
  seekers++;
  at = INSTANCES;
  do
  :: state[mine] == kDone -> break
  :: skip -> at = INSTANCES; break       /* it has looked for long enough */
  :: ownership[0] != kOwned -> try_own(0, got); if :: got -> at = 0; break :: else fi
#if INSTANCES > 1
  :: ownership[1] != kOwned -> try_own(1, got); if :: got -> at = 1; break :: else fi
#endif
  od;
  seekers--;
#ifndef NO_LAST_TRY
  if
  :: at == INSTANCES && state[mine] != kDone -> try_own_any(at)
  :: else
  fi;
#endif
  if
  :: at < INSTANCES -> run_inline(at, mine)
  :: else ->
#ifndef NO_NOTICE_WHEN_DONE
     if
     :: state[mine] == kDone && !IS_EMPTY -> notify_residents()
     :: else
     fi
#else
     skip
#endif
  fi;
  if
  :: state[mine] == kDone
  :: has_deadline ->
     claim(mine, got);
     if :: got -> answer(mine) :: else fi
  fi;
  state[mine] == kDone;
answered_:
  skip
}

proctype Submitting(byte mine) {
  byte at;
  bool got;

  d_step { state[mine] = kQueued; queue ! mine };
#ifndef NO_NOTIFY
  notify_residents();
#endif
  if
  :: skip
  :: claim(mine, got);                   /* cancel() */
     if :: got -> answer(mine) :: else fi
  fi
}

proctype Resident(byte mine) {
  byte first = NONE, second = NONE;
  bool got, formed, served;

  do
  :: stopping -> break
  :: else ->
     try_own(mine, got);
     if
     :: got ->
        served = false;
        do
        :: form(mine); if :: formed -> run_batch(mine); served = true :: else -> break fi
        od;
        disown(mine);
        d_step { got = false; formed = false };
        /* It looks for more for a while, or does not. */
        if
        :: served && (ownership[mine] == kFreeWithCarry ||
                      (ownership[mine] != kOwned && !IS_EMPTY) || stopping) ->
           served = false; goto again
        :: served = false
        fi
     :: else
     fi;
     d_step { announced[mine] = true; notified[mine] = false };
#ifndef NO_LOOK_BEFORE_SLEEP
     if :: stopping -> goto cancelled :: else fi;
     if :: ownership[mine] == kFreeWithCarry -> goto cancelled :: else fi;
     if
     :: ownership[mine] != kOwned -> if :: !IS_EMPTY -> goto cancelled :: IS_EMPTY fi
     :: else
     fi;
#else
     if :: stopping -> goto cancelled :: else fi;
#endif
     notified[mine];
cancelled:
     skip;
     d_step { announced[mine] = false; notified[mine] = false };
again:
     skip
  od
}

/* Scheduler::close() */
proctype Closing() {
  byte at;
  answered == REQUESTS;
  stopping = true;
  do
  :: at == INSTANCES -> break
  :: else -> notify(at); at++
  od
}

init {
  byte i;
  atomic {
    do
    :: i == REQUESTS -> break
    :: i < BLOCKING -> run Blocking(i, i == 1); i++
    :: i >= BLOCKING && i < REQUESTS -> run Submitting(i); i++
    od;
    i = 0;
    do
    :: i == INSTANCES -> break
    :: else -> run Resident(i); i++
    od;
    run Closing()
  }
}
