package main

import (
	"encoding/hex"
	"errors"
	"net/http"
	"slices"
	"strconv"
	"strings"

	fractal "fractal-lba.example/sdk-go"
)

func init() {
	operations["retry.plan"] = retryPlan
	operations["retry.after"] = retryAfter
	operations["endpoint.plan"] = endpointPlan
	operations["http.request"] = httpRequest
	operations["http.response"] = httpResponse
	operations["errors.map"] = errorsMap
}

// retryPlan goes the way of a client: a response in, an error out, and from that what decides.
func retryPlan(args members) (members, error) {
	policy := fractal.DefaultRetry()
	switch given := args["policy"].(type) {
	case string:
		if given == "none" {
			policy = fractal.NoRetry()
		}
	case map[string]any:
		for name := range given {
			n := members(given).number(name)
			switch name {
			case "max_attempts":
				policy.MaxAttempts = int(n)
			case "wait_base_ms":
				policy.WaitBaseMs = n
			case "wait_max_ms":
				policy.WaitMaxMs = n
			case "retry_after_max_ms":
				policy.RetryAfterMaxMs = n
			}
		}
	}
	next := fractal.PlanRetry(policy, resultOfOutcome(args), fractal.Moment{
		Attempt: int(args.number("attempt")), U: args.double("u"), NowMs: args.number("now_ms"),
		DeadlineMs: args.number("deadline_ms"), Quota: int(args.number("quota")),
		Alternate: args.flag("alternate"),
	})
	if next.Stop != "" {
		return members{"stop": next.Stop, "quota": decimal(next.Quota)}, nil
	}
	return members{"wait_ms": decimal(next.WaitMs), "quota": decimal(next.Quota)}, nil
}

func resultOfOutcome(args members) fractal.Result {
	outcome := args.under("outcome")
	status := int(outcome.number("status"))
	if outcome.has("error") {
		return fractal.ResultOf(&fractal.Error{Code: outcome.text("error"), Status: status}, true)
	}
	raw := fractal.RawResponse{Status: status, Headers: outcome.fields("headers")}
	_, err := fractal.ReadResponse(raw, args.number("now_ms"), fractal.DefaultResponseLimits())
	if fault := (*fractal.Error)(nil); errors.As(err, &fault) {
		return fractal.ResultOf(fault, true)
	}
	return fractal.Result{Status: status}
}

func retryAfter(args members) (members, error) {
	ms, ok := fractal.ParseRetryAfter(
		args.texts("values"),
		args.text("date"),
		args.number("now_ms"),
	)
	if !ok {
		return members{"none": "true"}, nil
	}
	return members{"ms": decimal(ms)}, nil
}

func failoverOf(options members) fractal.FailoverPolicy {
	policy := fractal.DefaultFailover()
	for name := range options {
		switch name {
		case "down_after":
			policy.DownAfter = int(options.number(name))
		case "up_after":
			policy.UpAfter = int(options.number(name))
		case "redirect_hops":
			policy.RedirectHops = int(options.number(name))
		case "probe_interval_ms":
			policy.ProbeIntervalMs = options.number(name)
		case "failback_after_ms":
			if policy.NeverFailback = options.text(name) == "none"; !policy.NeverFailback {
				policy.FailbackAfterMs = options.number(name)
			}
		case "allowed_regions":
			policy.AllowedRegions = options.texts(name)
		}
	}
	return policy
}

func endpointsOf(args members) []fractal.Endpoint {
	endpoints := []fractal.Endpoint{}
	for _, each := range args.list("endpoints") {
		endpoints = append(
			endpoints,
			fractal.Endpoint{URL: each.text("url"), Region: each.text("region")},
		)
	}
	return endpoints
}

// endpointPlan plays a history; a client keeps the hops of a call, and asks where its retry goes.
func endpointPlan(args members) (members, error) {
	fleet, err := fractal.NewFleet(endpointsOf(args), failoverOf(args.under("options")))
	if err != nil {
		return nil, err
	}
	hops, steps := 0, []members{}
	for _, event := range args.list("events") {
		nowMs, u, alternate := event.number("at_ms"), 0.5, false
		if event.has("u") {
			u = event.double("u")
		}
		switch event.text("event") {
		case "call":
			fleet, hops = fleet.Begun(nowMs, u), 0
		case "probe":
			fleet = fleet.Probed(int(event.number("endpoint")), event.flag("ok"), nowMs, u)
		case "result":
			sender, result := int(event.number("endpoint")), resultOfEvent(event)
			fleet = fleet.Attempted(sender, result, nowMs, u)
			target := fleet.NextFor(sender, result)
			if event.has("hint") && (result.Status == 421 || result.Status == 423) {
				hint := fractal.LeaderHint{
					Endpoint: event.text("hint"), RegionEpoch: uint64(event.number("hint_epoch")),
				}
				if followed, ok := fleet.Hinted(hint, hops, nowMs, u); ok {
					fleet, hops, target = followed, hops+1, followed.Current()
				}
			}
			alternate = target != sender
		}
		states := []string{}
		for index := range fleet.Len() {
			states = append(states, fleet.State(index))
		}
		steps = append(steps, members{
			"current": decimal(fleet.Current()), "states": states,
			"alternate": strconv.FormatBool(alternate),
		})
	}
	return members{"steps": steps}, nil
}

func resultOfEvent(event members) fractal.Result {
	result := fractal.Result{
		Unsent:        !event.flag("sent"),
		HasRetryAfter: event.has("retry_after_ms"),
	}
	if status, err := strconv.Atoi(event.text("result")); err == nil {
		result.Status = status
	} else {
		result.Code = event.text("result")
	}
	if result.HasRetryAfter {
		result.RetryAfterMs = event.number("retry_after_ms")
	}
	return result
}

func httpRequest(args members) (members, error) {
	facts := fractal.RequestFacts{
		Endpoint: args.text("endpoint"), Agent: args.text("agent"), Tenant: args.text("tenant"),
		Attempt: int(args.number("attempt")), MinAck: args.text("min_ack"),
		IdempotencyKey: args.text("content"),
	}
	if args.has("token") {
		token := fractal.NewSecret([]byte(args.text("token")))
		facts.Token = &token
	}
	var request fractal.Request
	var err error
	switch args.text("request") {
	case "submit":
		request, err = fractal.SubmitRequest(facts, args.bytes("body"))
	case "get":
		request, err = fractal.OutcomeRequest(facts, args.text("pcs_id"))
	case "status":
		request, err = fractal.RegionStatusRequest(facts)
	default:
		request, err = fractal.HealthRequest(facts)
	}
	if err != nil {
		return nil, err
	}
	headers := [][]string{}
	for _, field := range request.Headers {
		headers = append(headers, []string{strings.ToLower(field[0]), field[1]})
	}
	slices.SortFunc(headers, slices.Compare)
	return members{
		"method": request.Method, "url": request.URL, "headers": headers,
		"body": hex.EncodeToString(request.Body),
	}, nil
}

func readResponse(args members, nowMs int64) (*fractal.Response, error) {
	raw := fractal.RawResponse{
		Status: int(args.number("status")), Headers: args.fields("headers"),
		Body: args.bytes("body"),
	}
	return fractal.ReadResponse(raw, nowMs, fractal.DefaultResponseLimits())
}

func httpResponse(args members) (members, error) {
	response, err := readResponse(args, 0)
	if err != nil {
		return nil, err
	}
	answer := members{}
	if args.text("request") == "get" {
		outcome, err := fractal.ReadOutcome(response, args.text("pcs_id"))
		if err != nil {
			return nil, err
		}
		answer["outcome"] = outcomeAnswer(outcome)
	} else {
		submitted, err := fractal.ReadSubmitted(response, args.text("pcs_id"), 1)
		if err != nil {
			return nil, err
		}
		answer = submittedAnswer(submitted)
	}
	if response.RequestID != "" {
		answer["request_id"] = response.RequestID
	}
	return answer, nil
}

func submittedAnswer(submitted *fractal.Submitted) members {
	answer := members{
		"outcome":  outcomeAnswer(&submitted.Outcome),
		"replayed": strconv.FormatBool(submitted.Replayed), "level": submitted.Level,
	}
	for name, place := range map[string]*fractal.Position{
		"position": submitted.Position, "replicated": submitted.Replicated,
	} {
		if place != nil {
			answer[name] = members{
				"region": place.Region, "placement": place.Placement,
				"region_epoch": decimal(place.RegionEpoch), "seq": decimal(place.Seq),
			}
		}
	}
	return answer
}

func outcomeAnswer(outcome *fractal.Outcome) members {
	answer := members{
		"accepted":  strconv.FormatBool(outcome.Accepted),
		"escalated": strconv.FormatBool(outcome.Escalated),
		"first_seen": members{
			"region": outcome.FirstSeen.Region,
			"hlc":    outcome.FirstSeen.HLC,
		},
		"pcs_id":            outcome.PcsID,
		"policy_version":    outcome.PolicyVersion,
		"recomputed_D_hat":  bits(outcome.RecomputedDHat),
		"recomputed_budget": bits(outcome.RecomputedBudget),
	}
	if outcome.Reason != "" {
		answer["reason"] = outcome.Reason
	}
	return answer
}

func errorsMap(args members) (members, error) {
	_, err := readResponse(args, args.number("now_ms"))
	var fault *fractal.Error
	if !errors.As(err, &fault) {
		panic("expected an error for status " + http.StatusText(int(args.number("status"))))
	}
	answer := members{
		"class": fault.Class(), "code": fault.Code, "fault": fault.Fault(),
		"retryable": strconv.FormatBool(fractal.ResultOf(fault, true).Retryable()),
	}
	if fault.RequestID != "" {
		answer["request_id"] = fault.RequestID
	}
	if fault.HasPointer {
		answer["pointer"] = fault.Pointer
	}
	if fault.HasRetryAfter {
		answer["retry_after_ms"] = decimal(fault.RetryAfterMs)
	}
	return answer, nil
}
