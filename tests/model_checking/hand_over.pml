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

inline notify(sleeper) {
  d_step { if :: announced[sleeper] -> notified[sleeper] = true :: else fi }
}

inline try_own(at, got) {
#ifdef SPLIT_OWN
  got = ownership[at] != kOwned;
#else
  d_step {
    got = ownership[at] != kOwned;
#endif
#ifdef SPLIT_OWN
  d_step {
#endif
    ownership[at] = kOwned;
    if :: got -> owners[at]++; assert(owners[at] == 1) :: else fi
  }
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

/* Two steps, as others may see it running. */
inline claim(request, got) {
  d_step {
    got = state[request] == kQueued;
    if :: got -> state[request] = kRunning :: else fi
  }
}

inline answer(request) {
  assert(state[request] == kRunning); state[request] = kDone; answered++
}

/* Scheduler::form(): up to two members; one taken out that does not fit is
 * carried. formed: whether any is left to run. */
inline form(at) {
  formed = false;
  do
  :: formed -> break
  :: else ->
     /* The carry is the owner's own, so that taking it is no step of others' concern. */
     d_step {
       if
       :: carry[at] != NONE -> first = carry[at]; carry[at] = NONE
       :: carry[at] == NONE && !IS_EMPTY -> queue ? first
       :: else
       fi
     };
     if
     :: first == NONE -> break
     :: else
     fi;
     if
     :: skip                             /* full */
     :: queue ? second                   /* it fits */
     :: atomic { queue ? second -> carry[at] = second; second = NONE }
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
  d_step {
    if :: first != NONE -> answer(first) :: else fi;
    if :: second != NONE -> answer(second) :: else fi;
    first = NONE; second = NONE
  }
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
  skip;
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
#ifndef PATIENT
  :: has_deadline ->
     claim(mine, got);
     if :: got -> d_step { answer(mine) } :: else fi
#endif
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
#ifdef PATIENT
  got = false
#else
  if
  :: skip
  :: claim(mine, got);                   /* cancel() */
     if :: got -> d_step { answer(mine) } :: else fi
  fi
#endif
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
        skip;
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
    :: i < BLOCKING -> run Blocking(i, i == BLOCKING - 1); i++
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
