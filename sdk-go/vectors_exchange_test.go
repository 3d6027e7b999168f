package fractal

import (
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
)

func init() {
	reaches("retry.plan", "parts", planByParts)
	reaches("retry.plan", "response", planByResponse)
	reaches("retry.after", "values", afterByValues)
	reaches("retry.after", "response", afterByResponse)
	reaches("endpoint.plan", "events", fleetByEvents)
	reaches("http.request", "kind", requestByKind)
	reaches("http.request", "endpoint", requestAtEndpoint)
	reaches("http.response", "kind", responseByKind)
	reaches("errors.map", "response", mappedByResponse)
}

// --- retry ----------------------------------------------------------------------------------

func policyOf(given any) RetryPolicy {
	policy := DefaultRetry()
	switch given := given.(type) {
	case string:
		if given == "none" {
			policy = NoRetry()
		}
	case map[string]any:
		for name := range given {
			n := vectorArgs(given).number(name)
			switch name {
			case "max_attempts":
				policy.MaxAttempts = int(n)
			default:
				panic("an unknown number of a policy: " + name)
			}
		}
	}
	return policy
}

func planned(args vectorArgs, result Result) (answer, error) {
	policy := policyOf(args["policy"])
	if err := policy.check(); err != nil {
		return nil, err
	}
	got := PlanRetry(policy, result, Moment{
		Attempt: int(args.number("attempt")), U: args.double("u"), NowMs: args.number("now_ms"),
		DeadlineMs: args.number("deadline_ms"), Quota: int(args.number("quota")),
		Alternate: args.text("alternate") == "true",
	})
	quota := strconv.Itoa(got.Quota)
	if got.Stop != "" {
		return answer{"stop": got.Stop, "quota": quota}, nil
	}
	return answer{"wait_ms": strconv.FormatInt(got.WaitMs, 10), "quota": quota}, nil
}

func planByParts(args vectorArgs) (answer, error) {
	outcome := args.under("outcome")
	headers := joinHeaders(outcome.pairs("headers"))
	var asked []string
	for _, field := range outcome.pairs("headers") {
		if strings.EqualFold(field[0], "Retry-After") {
			asked = append(asked, field[1])
		}
	}
	result := Result{
		Status: int(outcome.number("status")), Code: outcome.text("error"),
		Wish: ParseWish(headers["x-should-retry"]),
	}
	result.RetryAfterMs, result.HasRetryAfter = ParseRetryAfter(
		asked, headers["date"], args.number("now_ms"))
	return planned(args, result)
}

// planByResponse is the way of a client: bytes in, an error out, and from that what decides.
func planByResponse(args vectorArgs) (answer, error) {
	outcome := args.under("outcome")
	status := int(outcome.number("status"))
	if code := outcome.text("error"); code != "" {
		err := newError(code, "x")
		err.Status = status
		return planned(args, ResultOf(err, true))
	}
	raw := RawResponse{Status: status, Headers: outcome.pairs("headers")}
	_, err := ReadResponse(raw, args.number("now_ms"), DefaultResponseLimits())
	var fault *Error
	if errors.As(err, &fault) {
		return planned(args, ResultOf(fault, true))
	}
	return planned(args, Result{Status: status})
}

func afterAnswer(ms int64, ok bool) (answer, error) {
	if !ok {
		return answer{"none": "true"}, nil
	}
	return answer{"ms": strconv.FormatInt(ms, 10)}, nil
}

func valuesOf(args vectorArgs) []string {
	var values []string
	for _, value := range args["values"].([]any) {
		values = append(values, value.(string))
	}
	return values
}

func afterByValues(args vectorArgs) (answer, error) {
	return afterAnswer(ParseRetryAfter(valuesOf(args), args.text("date"), args.number("now_ms")))
}

func afterByResponse(args vectorArgs) (answer, error) {
	raw := RawResponse{Status: 503}
	for _, value := range valuesOf(args) {
		raw.Headers = append(raw.Headers, [2]string{"Retry-After", value})
	}
	if date, given := args["date"]; given {
		raw.Headers = append(raw.Headers, [2]string{"Date", date.(string)})
	}
	_, err := ReadResponse(raw, args.number("now_ms"), DefaultResponseLimits())
	var fault *Error
	if !errors.As(err, &fault) {
		return nil, err
	}
	return afterAnswer(fault.RetryAfterMs, fault.HasRetryAfter)
}

// --- endpoints ------------------------------------------------------------------------------

func fleetOf(args vectorArgs) (Fleet, error) {
	policy := DefaultFailover()
	for name, given := range args.under("options") {
		switch name {
		case "down_after":
			policy.DownAfter = int(args.under("options").number(name))
		case "up_after":
			policy.UpAfter = int(args.under("options").number(name))
		case "redirect_hops":
			policy.RedirectHops = int(args.under("options").number(name))
		case "failback_after_ms":
			if policy.NeverFailback = given == "none"; !policy.NeverFailback {
				policy.FailbackAfterMs = args.under("options").number(name)
			}
		case "allowed_regions":
			policy.AllowedRegions = []string{}
			for _, region := range given.([]any) {
				policy.AllowedRegions = append(policy.AllowedRegions, region.(string))
			}
		default:
			panic("an unknown option: " + name)
		}
	}
	var endpoints []Endpoint
	for _, e := range args.list("endpoints") {
		endpoints = append(endpoints, Endpoint{URL: e.text("url"), Region: e.text("region")})
	}
	return NewFleet(endpoints, policy)
}

func resultOf(event vectorArgs) Result {
	result := Result{Unsent: event.text("sent") == "false"}
	if status, err := strconv.Atoi(event.text("result")); err == nil {
		result.Status = status
	} else {
		result.Code = event.text("result")
	}
	if event["retry_after_ms"] != nil {
		result.RetryAfterMs, result.HasRetryAfter = event.number("retry_after_ms"), true
	}
	return result
}

// fleetByEvents plays a history; a client keeps the hops of a call, and asks where its retry goes.
func fleetByEvents(args vectorArgs) (answer, error) {
	fleet, err := fleetOf(args)
	if err != nil {
		return nil, err
	}
	hops, steps := 0, []answer{}
	for _, event := range args.list("events") {
		nowMs, u := event.number("at_ms"), 0.5
		if event["u"] != nil {
			u = event.double("u")
		}
		before, alternate := fmt.Sprint(fleet), false
		was := fleet
		switch event.text("event") {
		case "call":
			fleet, hops = fleet.Begun(nowMs, u), 0
		case "probe":
			fleet = fleet.Probed(
				int(event.number("endpoint")),
				event.text("ok") == "true",
				nowMs,
				u,
			)
		case "result":
			sender, result := int(event.number("endpoint")), resultOf(event)
			fleet = fleet.Attempted(sender, result, nowMs, u)
			target := fleet.NextFor(sender, result)
			hinted := result.Status == 421 || result.Status == 423
			if hint := event.text("hint"); hint != "" && hinted {
				epoch := uint64(event.number("hint_epoch"))
				followed, ok := fleet.Hinted(LeaderHint{hint, epoch}, hops, nowMs, u)
				if ok {
					fleet, hops, target = followed, hops+1, followed.Current()
				}
			}
			if target != fleet.Current() {
				return nil, fmt.Errorf("the retry goes to %d, not to %d", target, fleet.Current())
			}
			alternate = target != sender
		}
		if fmt.Sprint(was) != before {
			return nil, errors.New("an event changed the fleet that it was given")
		}
		states := []string{}
		for index := range fleet.Len() {
			states = append(states, fleet.State(index))
		}
		steps = append(steps, answer{
			"current": strconv.Itoa(fleet.Current()), "states": states,
			"alternate": strconv.FormatBool(alternate),
		})
	}
	return answer{"steps": steps}, nil
}

// --- http -----------------------------------------------------------------------------------

func requestByKind(args vectorArgs) (answer, error) {
	facts := RequestFacts{
		Endpoint: args.text("endpoint"), Agent: args.text("agent"), Tenant: args.text("tenant"),
		Attempt: int(args.number("attempt")), MinAck: args.text("min_ack"),
		IdempotencyKey: args.text("content"),
	}
	if token, given := args["token"]; given {
		secret := NewSecret([]byte(token.(string)))
		facts.Token = &secret
	}
	var request Request
	var err error
	switch args.text("request") {
	case "submit":
		request, err = SubmitRequest(facts, args.bytes("body"))
	case "get":
		request, err = OutcomeRequest(facts, args.text("pcs_id"))
	case "status":
		request, err = RegionStatusRequest(facts)
	default:
		request, err = HealthRequest(facts)
	}
	if err != nil {
		return nil, err
	}
	headers := [][]string{}
	for _, field := range request.Headers {
		headers = append(headers, []string{strings.ToLower(field[0]), field[1]})
	}
	slices.SortFunc(headers, slices.Compare)
	return answer{
		"method": request.Method, "url": request.URL, "headers": headers,
		"body": hex.EncodeToString(request.Body),
	}, nil
}

// requestAtEndpoint sends to the URL as a fleet writes it; only default ports may differ.
func requestAtEndpoint(args vectorArgs) (answer, error) {
	given := strings.TrimSuffix(args.text("endpoint"), "/")
	fleet, err := NewFleet([]Endpoint{{URL: args.text("endpoint")}}, DefaultFailover())
	if err != nil {
		return nil, err
	}
	url := fleet.Endpoint(0).URL
	if url != strings.TrimSuffix(given, ":80") {
		return nil, fmt.Errorf("%s became %s", given, url)
	}
	changed := vectorArgs{}
	for name, value := range args {
		changed[name] = value
	}
	changed["endpoint"] = url
	got, err := requestByKind(changed)
	if err != nil {
		return nil, err
	}
	got["url"] = strings.Replace(got["url"].(string), url, given, 1)
	return got, nil
}

func rawOf(args vectorArgs) RawResponse {
	return RawResponse{int(args.number("status")), args.pairs("headers"), args.bytes("body")}
}

func responseByKind(args vectorArgs) (answer, error) {
	response, err := ReadResponse(rawOf(args), 0, DefaultResponseLimits())
	if err != nil {
		return nil, err
	}
	got := answer{}
	if args.text("request") == "get" {
		outcome, err := ReadOutcome(response, args.text("pcs_id"))
		if err != nil {
			return nil, err
		}
		got["outcome"] = outcomeAnswer(outcome)
	} else {
		submitted, err := ReadSubmitted(response, args.text("pcs_id"), 1)
		if err != nil {
			return nil, err
		}
		got["outcome"] = outcomeAnswer(&submitted.Outcome)
		got["replayed"] = strconv.FormatBool(submitted.Replayed)
		got["level"] = submitted.Level
		for name, place := range map[string]*Position{
			"position": submitted.Position, "replicated": submitted.Replicated,
		} {
			if place == nil {
				continue
			}
			if again, err := ParsePosition(place.String()); err != nil || again != *place {
				return nil, fmt.Errorf("%s read again: %v", place, err)
			}
			got[name] = answer{
				"region": place.Region, "placement": place.Placement,
				"region_epoch": strconv.FormatUint(place.RegionEpoch, 10),
				"seq":          strconv.FormatUint(place.Seq, 10),
			}
		}
	}
	if response.RequestID != "" {
		got["request_id"] = response.RequestID
	}
	return got, nil
}

func outcomeAnswer(outcome *Outcome) answer {
	got := answer{
		"accepted":  strconv.FormatBool(outcome.Accepted),
		"escalated": strconv.FormatBool(outcome.Escalated),
		"first_seen": answer{
			"region": outcome.FirstSeen.Region,
			"hlc":    outcome.FirstSeen.HLC,
		},
		"pcs_id":            outcome.PcsID,
		"policy_version":    outcome.PolicyVersion,
		"recomputed_D_hat":  bits(outcome.RecomputedDHat),
		"recomputed_budget": bits(outcome.RecomputedBudget),
	}
	if outcome.Reason != "" {
		got["reason"] = outcome.Reason
	}
	return got
}

func mappedByResponse(args vectorArgs) (answer, error) {
	_, err := ReadResponse(rawOf(args), args.number("now_ms"), DefaultResponseLimits())
	var fault *Error
	if !errors.As(err, &fault) {
		return nil, err
	}
	if hex.EncodeToString(fault.Body) != args.text("body") {
		return nil, errors.New("the body is not kept")
	}
	got := answer{
		"class": fault.Class(), "code": fault.Code, "fault": fault.Fault(),
		"retryable": strconv.FormatBool(ResultOf(fault, true).Retryable()),
	}
	if fault.RequestID != "" {
		got["request_id"] = fault.RequestID
	}
	if fault.HasPointer {
		got["pointer"] = fault.Pointer
	}
	if fault.HasRetryAfter {
		got["retry_after_ms"] = strconv.FormatInt(fault.RetryAfterMs, 10)
	}
	return got, nil
}
