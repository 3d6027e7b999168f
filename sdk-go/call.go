package fractal

// This file decides, step by step, what a call does: which request goes where, what follows, when
// it ends (spec/retry.md). A machine gives effects; the shell, client_drive.go, carries them out
// and brings back a turn with what came of them and the time. So nothing in here sleeps, sends,
// draws or looks at a clock. The frozen body is built before the first step, and every attempt
// sends those bytes.
//
// callState is what the calls of one client share. The shell steps one machine at a time.

import "errors"

// --- effects and turns ----------------------------------------------------------------------

// machine is one call. The first step gets the zero turn, every other one what came of the last
// effect that was given: only that one is answered. It has ended when it gives none.
type machine interface {
	step(t turn) []effect
}

// effect is one of the types below.
type effect any

// sendEffect sends a request; the turn brings a *RawResponse, or the error of the transport.
type sendEffect struct {
	request          Request
	connectTimeoutMs int64
	attemptTimeoutMs int64
}

// sleepEffect lets time pass; the turn brings an error if the wait was cut short.
type sleepEffect struct{ waitMs int64 }

// probeEffect asks an endpoint for its health beside the call; the result goes to callState.probed.
type probeEffect struct {
	endpoint  int
	request   Request
	timeoutMs int64
}

// tellEffect reports an event.
type tellEffect struct{ event any }

// hearEffect tells the outbox, if there is one, how far a region is replicated.
type hearEffect struct{ watermark Position }

// enterEffect waits for a free place among the calls in flight; the turn brings an error if none
// came. The shell gives the place back when the call ends.
type enterEffect struct{ deadlineMs int64 }

// turn is what came of an effect, and when: Unix time, a clock that never goes back, and chance.
// The answer is nil, an *Error, or what the effect says.
type turn struct {
	nowMs       int64
	monotonicMs int64
	u           float64
	answer      any
}

func (t turn) fault() *Error {
	fault, _ := t.answer.(*Error)
	return fault
}

// isDrawing says whether a random number is drawn after an effect: those three have decisions
// about waits or probes behind them.
func isDrawing(e effect) bool {
	switch e.(type) {
	case sendEffect, enterEffect, probeEffect:
		return true
	}
	return false
}

// --- what calls share, and what they are ------------------------------------------------------

// callState is what the calls of one client share.
type callState struct {
	fleet   Fleet
	quota   int
	probing map[int]bool // indices of endpoints whose probe has not ended
}

func newCallState(fleet Fleet) *callState {
	return &callState{fleet: fleet, quota: QuotaFull, probing: map[int]bool{}}
}

// callBounds say how long, how often and how much; they are the same for every call of a client.
type callBounds struct {
	retry            RetryPolicy
	connectTimeoutMs int64
	attemptTimeoutMs int64
	limits           ResponseLimits
}

// callSpec is one kind of call: how its request is built and its response read.
type callSpec[T any] struct {
	name  string
	build func(endpoint string, attempt int) (Request, error)
	read  func(response *Response, attempts int, nowMs int64) (T, error)
}

// submitSpec describes the submit of one frozen body. facts has what does not vary.
func submitSpec(signed *SignedRecord, facts RequestFacts) callSpec[*Submitted] {
	facts.IdempotencyKey = signed.Content
	return callSpec[*Submitted]{
		name: "submit",
		build: func(endpoint string, attempt int) (Request, error) {
			return SubmitRequest(facts.at(endpoint, attempt), signed.Body)
		},
		read: func(response *Response, attempts int, _ int64) (*Submitted, error) {
			return ReadSubmitted(response, signed.PcsID, attempts)
		},
	}
}

// getSpec describes the reading of one outcome.
func getSpec(pcsID string, facts RequestFacts) callSpec[*Outcome] {
	return callSpec[*Outcome]{
		name: "get",
		build: func(endpoint string, attempt int) (Request, error) {
			return OutcomeRequest(facts.at(endpoint, attempt), pcsID)
		},
		read: func(response *Response, _ int, _ int64) (*Outcome, error) {
			return ReadOutcome(response, pcsID)
		},
	}
}

// batchSpec describes a batch of frozen bodies of one tenant.
func batchSpec(records []*SignedRecord, facts RequestFacts) callSpec[[]batchAnswer] {
	return callSpec[[]batchAnswer]{
		name: "batch",
		build: func(endpoint string, attempt int) (Request, error) {
			return batchRequest(facts.at(endpoint, attempt), records)
		},
		read: func(response *Response, attempts int, nowMs int64) ([]batchAnswer, error) {
			return readBatch(response, records, nowMs, attempts), nil
		},
	}
}

func (f RequestFacts) at(endpoint string, attempt int) RequestFacts {
	f.Endpoint, f.Attempt = endpoint, attempt
	return f
}

// --- one exchange ---------------------------------------------------------------------------

// exchange attempts until there is a result or a reason to stop (spec/retry.md 1 to 19).
type exchange[T any] struct {
	spec       callSpec[T]
	state      *callState
	bounds     callBounds
	deadlineMs int64 // on the clock of turn.monotonicMs
	agent      string

	// value is the result once the machine has ended, unless err says why there is none.
	value T
	err   *Error

	next    func(t turn) []effect
	sender  int
	attempt int
	taken   int // what the last retry took from the quota
	hops    int // hints followed so far
	request Request
	sentMs  int64
}

func newExchange[T any](
	spec callSpec[T], state *callState, bounds callBounds, deadlineMs int64, agent string,
) *exchange[T] {
	e := &exchange[T]{
		spec: spec, state: state, bounds: bounds, deadlineMs: deadlineMs, agent: agent,
	}
	e.next = e.enter
	return e
}

func (e *exchange[T]) step(t turn) []effect { return e.next(t) }

func (e *exchange[T]) enter(turn) []effect {
	e.next = e.entered
	return []effect{enterEffect{e.deadlineMs}}
}

func (e *exchange[T]) entered(t turn) []effect {
	if fault := t.fault(); fault != nil {
		return e.stopped(nil, fault, fault.Code)
	}
	e.state.fleet = e.state.fleet.Begun(t.nowMs, t.u)
	e.sender = e.state.fleet.Current()
	return e.send(t)
}

func (e *exchange[T]) send(t turn) []effect {
	effects, err := e.state.probes(t.nowMs, e.agent)
	if err != nil {
		return e.ended(asError(err))
	}
	leftMs := e.deadlineMs - t.monotonicMs
	if leftMs <= 0 {
		late := e.err
		if late == nil {
			late = newError("deadline_exceeded", "the total bound of the call has passed")
		}
		return e.stopped(effects, late, StopDeadlineExceeded)
	}
	e.attempt++
	e.request, err = e.spec.build(e.state.fleet.Endpoint(e.sender).URL, e.attempt)
	if err != nil {
		return e.ended(asError(err))
	}
	e.sentMs = t.monotonicMs
	attemptMs := min(e.bounds.attemptTimeoutMs, leftMs)
	e.next = e.answered
	return append(
		effects,
		sendEffect{e.request, min(e.bounds.connectTimeoutMs, attemptMs), attemptMs},
	)
}

func (e *exchange[T]) answered(t turn) []effect {
	e.value, e.err = e.read(t)
	effects := append(heardIn(t), tellEffect{e.attemptEvent(t)})
	result := e.result(t)
	e.state.fleet = e.state.fleet.Attempted(e.sender, result, t.nowMs, t.u)
	target := e.target(result, t)
	decision := PlanRetry(e.bounds.retry, result, Moment{
		Attempt: e.attempt, U: t.u, NowMs: t.nowMs,
		DeadlineMs: t.nowMs + e.deadlineMs - t.monotonicMs,
		Quota:      e.state.quota, Alternate: target != e.sender, Taken: e.taken,
	})
	e.state.quota = decision.Quota
	if decision.Stop != "" {
		if e.err == nil {
			return e.ended(nil, effects...)
		}
		return e.stopped(effects, e.err, decision.Stop)
	}
	e.taken = decision.Cost
	effects = append(effects,
		tellEffect{RetryEvent{e.spec.name, e.attempt, decision.WaitMs, e.err.Code}})
	if target != e.sender {
		effects = append(effects, tellEffect{e.failoverEvent(target)})
	}
	e.sender, e.next = target, e.slept
	return append(effects, sleepEffect{decision.WaitMs})
}

// heardIn reads the watermark of an answer, whatever the answer is (formats 12.14).
func heardIn(t turn) []effect {
	if raw, isAnswer := t.answer.(*RawResponse); isAnswer {
		if watermark, found := watermarkOf(raw.Headers); found {
			return []effect{hearEffect{watermark}}
		}
	}
	return nil
}

func (e *exchange[T]) slept(t turn) []effect {
	if fault := t.fault(); fault != nil {
		return e.stopped(nil, fault, fault.Code)
	}
	return e.send(t)
}

// stopped ends the call with an error, after these effects.
func (e *exchange[T]) stopped(effects []effect, fault *Error, reason string) []effect {
	fault.Stop, fault.Attempts = reason, e.attempt
	return e.ended(fault, append(effects, tellEffect{stopEvent{e.spec.name, fault}})...)
}

// ended ends the call once these effects are carried out.
func (e *exchange[T]) ended(fault *Error, effects ...effect) []effect {
	e.err = fault
	e.next = func(turn) []effect { return nil }
	return effects
}

func (e *exchange[T]) read(t turn) (value T, fault *Error) {
	if fault := t.fault(); fault != nil {
		return value, fault
	}
	response, err := ReadResponse(*t.answer.(*RawResponse), t.nowMs, e.bounds.limits)
	if err != nil {
		return value, asError(err)
	}
	value, err = e.spec.read(response, e.attempt, t.nowMs)
	if err != nil {
		return value, asError(err)
	}
	return value, nil
}

func (e *exchange[T]) result(t turn) Result {
	if e.err != nil {
		return ResultOf(e.err, true)
	}
	return Result{Status: t.answer.(*RawResponse).Status}
}

// target says where the next attempt goes: where a hint points, or where the fleet says.
func (e *exchange[T]) target(result Result, t turn) int {
	if e.err != nil {
		if hint, found := leaderHint(e.err); found {
			if fleet, followed := e.state.fleet.Hinted(hint, e.hops, t.nowMs, t.u); followed {
				e.state.fleet = fleet
				e.hops++
				return fleet.Current()
			}
		}
	}
	return e.state.fleet.NextFor(e.sender, result)
}

func (e *exchange[T]) attemptEvent(t turn) AttemptEvent {
	event := AttemptEvent{
		Call: e.spec.name, Method: e.request.Method, URL: loggableURL(e.request.URL),
		Attempt: e.attempt, ElapsedMs: t.monotonicMs - e.sentMs,
		RequestHeaders:  loggableHeaders(e.request.Headers),
		ResponseHeaders: map[string]string{},
	}
	if raw, isAnswer := t.answer.(*RawResponse); isAnswer {
		event.Status = raw.Status
		event.ResponseHeaders = loggableHeaders(raw.Headers)
		event.RequestID = event.ResponseHeaders["x-request-id"]
	}
	if e.err != nil {
		event.Code = e.err.Code
	}
	return event
}

func (e *exchange[T]) failoverEvent(target int) FailoverEvent {
	fleet := e.state.fleet
	return FailoverEvent{
		FromURL: loggableURL(fleet.Endpoint(e.sender).URL),
		ToURL:   loggableURL(fleet.Endpoint(target).URL),
	}
}

// asError takes an error of this package as it is. Any other comes from a Transport that does not
// keep to its contract: then nothing is known but that no answer came.
func asError(err error) *Error {
	var known *Error
	if errors.As(err, &known) {
		return known
	}
	fault := newError("connection_lost", "the transport failed: %T", err)
	fault.Err = err
	return fault
}

// --- probes ---------------------------------------------------------------------------------

// probes starts the probes that are due: endpoints are probed while calls are made (retry 38).
func (s *callState) probes(nowMs int64, agent string) ([]effect, error) {
	var effects []effect
	for _, index := range s.fleet.ProbesDue(nowMs) {
		if s.probing[index] {
			continue
		}
		facts := RequestFacts{Agent: agent}.at(s.fleet.Endpoint(index).URL, 1)
		request, err := HealthRequest(facts)
		if err != nil {
			return nil, err
		}
		s.probing[index] = true
		effects = append(effects, probeEffect{index, request, s.fleet.Policy().ProbeTimeoutMs})
	}
	return effects, nil
}

// probed takes in what a probe came to; a cancelled one says nothing.
func (s *callState) probed(index int, t turn) {
	delete(s.probing, index)
	if fault := t.fault(); fault != nil && fault.Code == "cancelled" {
		return
	}
	raw, answered := t.answer.(*RawResponse)
	s.fleet = s.fleet.Probed(index, answered && raw.Status == 200, t.nowMs, t.u)
}
