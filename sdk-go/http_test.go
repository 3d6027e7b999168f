package fractal

import (
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"strings"
	"testing"
)

var (
	samplePcsID = strings.Repeat("a", 64)
	sampleBody  = outcomeBody(nil)
)

func headersOf(request Request) map[string]string {
	headers := map[string]string{}
	for _, field := range request.Headers {
		headers[field[0]] = field[1]
	}
	return headers
}

// --- requests -------------------------------------------------------------------------------

func TestWhatIsSetIsSentAndNothingElse(t *testing.T) {
	token := NewSecret([]byte("t0ken"))
	facts := RequestFacts{
		Endpoint: "https://eu.example/base/", Agent: "mine", Tenant: "acme", Token: &token,
		IdempotencyKey: "k", Attempt: 3, MinAck: "replicated", Traceparent: "00-1-2-01",
	}
	submit, err := SubmitRequest(facts, []byte("{}"))
	if err != nil {
		t.Fatal(err)
	}
	if got, want := headersOf(submit), map[string]string{
		"Accept": "application/json, application/problem+json", "User-Agent": "mine",
		"Content-Type": "application/json", "X-Tenant-Id": "acme", "Idempotency-Key": "k",
		"X-Retry-Attempt": "2", "PCS-Min-Ack": "replicated", "traceparent": "00-1-2-01",
	}; !maps.Equal(got, want) || len(submit.Headers) != len(want) || submit.Method != "POST" ||
		submit.URL != "https://eu.example/base/v1/pcs/submit" || string(submit.Body) != "{}" {
		t.Errorf("%+v", submit)
	}
	read, err := OutcomeRequest(facts, samplePcsID)
	if err != nil {
		t.Fatal(err)
	}
	if got, want := headersOf(read), map[string]string{
		"Accept": "application/json, application/problem+json", "User-Agent": "mine",
		"X-Tenant-Id": "acme", "Authorization": "Bearer t0ken", "X-Retry-Attempt": "2",
		"traceparent": "00-1-2-01",
	}; !maps.Equal(got, want) || read.Method != "GET" || read.Body != nil ||
		read.URL != "https://eu.example/base/v1/pcs/"+samplePcsID {
		t.Errorf("%+v", read)
	}
	health, err := HealthRequest(facts)
	if err != nil || len(health.Headers) != 2 || health.URL != "https://eu.example/base/health" {
		t.Errorf("%+v (%v)", health, err)
	}
	for attempt, sent := range map[int]string{1: "", 2: "1", 3: "2"} {
		facts.Attempt = attempt
		if request, err := SubmitRequest(facts, nil); err != nil ||
			headersOf(request)["X-Retry-Attempt"] != sent {
			t.Errorf("%d: %+v (%v)", attempt, request, err)
		}
	}
}

func TestOnlyAnIDGoesIntoAPath(t *testing.T) {
	for _, id := range []string{
		"", strings.Repeat("A", 64), strings.Repeat("a", 63), "../healthz", samplePcsID + "\n",
	} {
		if _, err := OutcomeRequest(RequestFacts{Endpoint: urlA}, id); errorCode(
			err,
		) != "hex_invalid" {
			t.Errorf("%q: %v", id, err)
		}
	}
}

func TestNoValueBreaksOutOfItsHeader(t *testing.T) {
	for _, value := range []string{
		"a\r\nX-Evil: 1", "a\n", " a", "a ", "\u00e9", "a\x00", "a\x7f",
	} {
		if _, err := SubmitRequest(RequestFacts{Traceparent: value}, nil); errorCode(
			err,
		) != "config_invalid" {
			t.Errorf("%q: %v", value, err)
		}
		token := NewSecret([]byte("s3cret" + value + "\x00"))
		_, err := OutcomeRequest(RequestFacts{Token: &token}, samplePcsID)
		if errorCode(err) != "config_invalid" || strings.Contains(err.Error(), "s3cret") {
			t.Errorf("%q: %v", value, err)
		}
	}
	empty := NewSecret(nil)
	if _, err := OutcomeRequest(RequestFacts{Token: &empty}, samplePcsID); errorCode(
		err,
	) != "config_invalid" {
		t.Error(err)
	}
}

func TestATenantCanStandInAHeader(t *testing.T) {
	for tenant, good := range map[string]bool{
		"": true, "acme": true, "A.b_c-9": true, strings.Repeat("t", 64): true,
		strings.Repeat("t", 65): false, "a b": false, "a\n": false, "\u00e9": false, "a/b": false,
	} {
		if err := checkTenant(tenant); (err == nil) != good ||
			err != nil && codeOf(err) != "config_invalid" {
			t.Errorf("%q: %v", tenant, err)
		}
	}
}

func TestOnlyListedHeadersAreLogged(t *testing.T) {
	kept := loggableHeaders([][2]string{
		{"Authorization", "Bearer x"}, {"Cookie", "y"}, {"X-Request-Id", "r"}, {"DATE", "d"},
	})
	if !maps.Equal(kept, map[string]string{"x-request-id": "r", "date": "d"}) {
		t.Error(kept)
	}
	for _, name := range []string{"authorization", "cookie", "set-cookie", "x-tenant-id"} {
		if loggedHeaders[name] {
			t.Error(name)
		}
	}
	for url, shown := range map[string]string{
		"https://user:pw@eu.example:8443/v1?token=x#y": "https://eu.example:8443/v1",
		urlA: urlA, "http://[::1]:80/a": "http://[::1]:80/a", "https://user:pw@[": mask,
	} {
		if got := loggableURL(url); got != shown {
			t.Errorf("%s: %s", url, got)
		}
	}
}

// --- responses ------------------------------------------------------------------------------

// failure reads a response that is an error.
func failure(t *testing.T, status int, body string, headers ...[2]string) *Error {
	t.Helper()
	_, err := ReadResponse(
		RawResponse{status, headers, []byte(body)},
		1000,
		DefaultResponseLimits(),
	)
	var fault *Error
	if !errors.As(err, &fault) {
		t.Fatalf("%d: %v", status, err)
	}
	return fault
}

func problem(members string) string {
	return `{"type":"about:blank","title":"t","status":429,` +
		`"detail":"expected less, got more"` + members + `}`
}

func TestOverALimitIsAnError(t *testing.T) {
	field := [2]string{"X-Request-Id", "r"}
	limits := ResponseLimits{Bytes: 4, Headers: 2}
	for _, status := range []int{200, 302, 400, 503} {
		for _, raw := range []RawResponse{
			{status, [][2]string{field, {"a", "b"}, {"a", "b"}}, nil}, {status, [][2]string{field}, []byte("12345")},
		} {
			_, err := ReadResponse(raw, 0, limits)
			var fault *Error
			if !errors.As(err, &fault) || fault.Code != "response_too_large" ||
				fault.Status != status ||
				fault.RequestID != "r" ||
				fault.Body != nil {
				t.Errorf("%+v: %v", raw, err)
			}
		}
	}
	at := RawResponse{200, [][2]string{field, {"A-B", "1"}}, []byte("1234")}
	response, err := ReadResponse(at, 0, limits)
	if err != nil || string(response.Body) != "1234" || response.Headers["a-b"] != "1" {
		t.Errorf("%+v (%v)", response, err)
	}
}

func TestARedirectIsNeverFollowed(t *testing.T) {
	for _, status := range []int{0, 100, 199, 301, 302, 307, 308, 399, 600, 999} {
		fault := failure(t, status, "b", [2]string{"Location", "https://evil.example"})
		if fault.Code != "response_malformed" || fault.Status != status ||
			fault.Fault() != "server" ||
			string(fault.Body) != "b" {
			t.Errorf("%d: %+v", status, fault)
		}
	}
}

func TestAProblemNamesItsError(t *testing.T) {
	for code, info := range codes {
		if info.Status == 0 {
			continue
		}
		fault := failure(
			t,
			info.Status,
			problem(`,"code":"`+code+`","pointer":"/r","request_id":"body"`),
			[2]string{"X-Request-Id", "head"},
			[2]string{"x-request-id2", "other"},
		)
		if fault.Code != code || fault.Pointer != "/r" || !fault.HasPointer ||
			fault.RequestID != "head" ||
			fault.Message != "expected less, got more" ||
			fault.Status != info.Status {
			t.Errorf("%s: %+v", code, fault)
		}
	}
	for _, body := range []string{
		"", "<html>", problem(`,"code":"code_of_next_year"`), `{"code":7}`, "[]",
		problem(`,"code":"cancelled"`), problem(`,"code":"unavailable","code":"internal"`)} {
		for status := 400; status < 600; status++ {
			want, known := statusCodes[status]
			if !known && status < 500 {
				want = "bad_request"
			} else if !known {
				want = "internal"
			}
			if fault := failure(t, status, body); fault.Code != want ||
				string(fault.Body) != body ||
				fault.HasPointer {
				t.Errorf("%d: %+v", status, fault)
			}
		}
	}
	sent := map[int]bool{}
	for _, info := range codes {
		sent[info.Status] = true
	}
	for status, code := range statusCodes {
		if codes[code].Status != status || !sent[status] {
			t.Error(status, code)
		}
		delete(sent, status)
	}
	if len(sent) != 1 || !sent[0] {
		t.Errorf("statuses without a code of their own: %v", sent)
	}
}

func TestAMessageIsOnePrintableLine(t *testing.T) {
	for body, message := range map[string]string{
		problem(``):                                          "expected less, got more",
		`{"detail":"","title":"t"}`:                          "t",
		`{"detail":7,"title":null}`:                          "the server answered 429",
		`{"detail":"a\r\nb\u001b[31m\u0085c\u007f"}`:         "a b [31m c ",
		`{"detail":"` + strings.Repeat("\u00e9", 501) + `"}`: strings.Repeat("\u00e9", 500),
	} {
		if fault := failure(t, 429, body); fault.Message != message {
			t.Errorf("%q", fault.Message)
		}
	}
	for text, kept := range map[string]string{
		"0190-a.b_C": "0190-a.b_C", strings.Repeat("x", 64): strings.Repeat("x", 64),
		strings.Repeat("x", 65): "", "a b": "", "": "", "a\n": "",
	} {
		byHead := failure(t, 429, "", [2]string{"X-Request-Id", text})
		byBody := failure(
			t,
			429,
			fmt.Sprintf(`{"request_id":%q}`, text),
			[2]string{"X-Request-Id", "no id"},
		)
		if byHead.RequestID != kept || byBody.RequestID != kept {
			t.Errorf("%q: %q, %q", text, byHead.RequestID, byBody.RequestID)
		}
	}
	if fault := failure(t, 422, problem(`,"pointer":["/r"]`)); fault.HasPointer {
		t.Error(fault.Pointer)
	}
}

func TestTheLargestWaitCounts(t *testing.T) {
	const none = -1
	after := func(value string) [2]string { return [2]string{"retry-AFTER", value} }
	for _, c := range []struct {
		inBody  string
		ms      int64
		headers [][2]string
	}{
		{"", none, nil}, {"", 2000, [][2]string{after("2")}}, {"", 3000, [][2]string{after("2"), after("3")}},
		{"2500", 2500, [][2]string{after("2")}}, {"10", 2000, [][2]string{after("2")}}, {"10", 10, nil},
		{"0", 0, nil}, {"-1", none, nil}, {"-0", none, nil}, {"1.0", none, nil}, {"true", none, nil},
		{`"10"`, none, nil}, {"", none, [][2]string{after("soon")}},
		{"9007199254740991", maxSafeInteger, nil}, {"9007199254740992", maxSafeInteger, nil},
		{"", 59_000, [][2]string{after("Thu, 01 Jan 1970 00:01:00 GMT")}},
		{"", 30_000, [][2]string{after("Thu, 01 Jan 1970 00:01:00 GMT"), {"Date", "Thu, 01 Jan 1970 00:00:30 GMT"}}},
	} {
		body := problem("")
		if c.inBody != "" {
			body = problem(`,"retry_after_ms":` + c.inBody)
		}
		fault := failure(t, 503, body, c.headers...)
		got := fault.RetryAfterMs
		if !fault.HasRetryAfter {
			got = none
		}
		if got != c.ms {
			t.Errorf("%+v: %d", c, got)
		}
	}
}

func TestARedirectHintIsRead(t *testing.T) {
	hint := func(text string) string { return problem(`,"leader_hint":` + text) }
	whole := hint(`{"endpoint":"` + urlA + `","region_epoch":7}`)
	for _, status := range []int{421, 423} {
		if got, ok := leaderHint(failure(t, status, whole)); !ok || got != (LeaderHint{urlA, 7}) {
			t.Errorf("%d: %+v", status, got)
		}
	}
	for _, body := range []string{
		"", problem(""), hint("null"), hint("[]"), hint("{}"), hint(`{"endpoint":"x"}`),
		hint(`{"endpoint":1,"region_epoch":7}`), hint(`{"endpoint":"x","region_epoch":"7"}`),
		hint(`{"endpoint":"x","region_epoch":-1}`), hint(`{"endpoint":"x","region_epoch":true}`),
	} {
		if _, ok := leaderHint(failure(t, 421, body)); ok {
			t.Error(body)
		}
	}
	if _, ok := leaderHint(failure(t, 503, whole)); ok {
		t.Error("a 503 hints at nothing")
	}
}

func respond(t *testing.T, status int, body string, headers ...[2]string) *Response {
	t.Helper()
	response, err := ReadResponse(
		RawResponse{status, headers, []byte(body)},
		0,
		DefaultResponseLimits(),
	)
	if err != nil {
		t.Fatal(err)
	}
	return response
}

func TestASubmitIsAnsweredByOutcomeAndHeaders(t *testing.T) {
	body := outcomeBody(
		map[string]string{"accepted": "false", "escalated": "true", "reason": `"n_j_implausible"`},
	)
	response := respond(
		t,
		202,
		body,
		[2]string{"Idempotency-Replayed", "true"},
		[2]string{
			"PCS-Level",
			"replicated",
		},
		[2]string{"PCS-Position", "fra/open/1/4711"},
		[2]string{"X-Request-Id", "r-1"},
	)
	submitted, err := ReadSubmitted(response, samplePcsID, 2)
	if err != nil {
		t.Fatal(err)
	}
	if submitted.Outcome.Reason != ReasonCounts || !submitted.Replayed ||
		submitted.Level != Replicated ||
		submitted.Position.String() != "fra/open/1/4711" || submitted.Raw.Attempts != 2 ||
		submitted.Raw.RequestID != "r-1" ||
		string(submitted.Raw.Body) != body ||
		submitted.Raw.Status != 202 {
		t.Errorf("%+v", submitted)
	}
	bare, err := ReadSubmitted(respond(t, 200, sampleBody), samplePcsID, 1)
	if err != nil || bare.Replayed || bare.Level != Durable || bare.Position != nil ||
		bare.Receipt != nil {
		t.Errorf("%+v (%v)", bare, err)
	}
	for _, field := range [][2]string{
		{"Idempotency-Replayed", "yes"}, {"Idempotency-Replayed", ""}, {"PCS-Level", "local"},
		{"PCS-Level", "durable, durable"}, {"PCS-Position", "fra/open/1"}, {"PCS-Position", ""},
	} {
		_, err := ReadSubmitted(
			respond(t, 200, sampleBody, field, [2]string{"X-Request-Id", "r"}),
			samplePcsID,
			1,
		)
		var fault *Error
		if !errors.As(err, &fault) || fault.Code != "response_malformed" || fault.Status != 200 ||
			fault.RequestID != "r" {
			t.Errorf("%q: %v", field, err)
		}
	}
}

func TestASuccessThatCannotBeReadIsMalformed(t *testing.T) {
	for _, c := range []struct {
		status int
		body   string
	}{
		{200, ""}, {200, "{}"}, {201, sampleBody}, {204, ""}, {200, sampleBody[:len(sampleBody)-1]},
		{202, outcomeBody(map[string]string{"pcs_id": `"` + strings.Repeat("b", 64) + `"`})},
	} {
		response := respond(t, c.status, c.body)
		for _, err := range []error{
			errorIn(ReadOutcome(response, samplePcsID)),
			errorIn(ReadSubmitted(response, samplePcsID, 1)),
		} {
			var fault *Error
			if !errors.As(err, &fault) || fault.Code != "response_malformed" ||
				fault.Status != c.status ||
				string(fault.Body) != c.body {
				t.Errorf("%+v: %v", c, err)
			}
		}
	}
}

func TestAnyBytesGiveAResultOrAnError(t *testing.T) {
	source := rand.New(rand.NewPCG(9, 9))
	for range 20_000 {
		body := []byte(sampleBody)
		for range source.IntN(3) {
			body[source.IntN(len(body))] = byte(source.UintN(256))
		}
		body = body[:source.IntN(len(body)+1)]
		raw := RawResponse{
			[]int{200, 202, 204, 302, 429, 503}[source.IntN(6)],
			[][2]string{{"Retry-After", string(body)}},
			body,
		}
		response, err := ReadResponse(raw, 0, DefaultResponseLimits())
		if err == nil {
			_, err = ReadSubmitted(response, samplePcsID, 1)
		}
		if _, known := LookupCode(errorCode(err)); err != nil && !known {
			t.Fatalf("%+v: %v", raw, err)
		}
	}
}

func FuzzReadResponse(f *testing.F) {
	f.Add(200, "PCS-Position", "fra/open/1/4711", []byte(sampleBody))
	f.Add(429, "Retry-After", "7", []byte(problem(`,"retry_after_ms":7`)))
	f.Add(
		421,
		"X-Request-Id",
		"r",
		[]byte(problem(`,"leader_hint":{"endpoint":"x","region_epoch":7}`)),
	)
	f.Fuzz(func(t *testing.T, status int, name, text string, body []byte) {
		raw := RawResponse{status, [][2]string{{name, text}}, body}
		response, err := ReadResponse(raw, 0, DefaultResponseLimits())
		if err == nil {
			_, err = ReadSubmitted(response, samplePcsID, 1)
		}
		var fault *Error
		if errors.As(err, &fault) {
			leaderHint(fault)
			if _, known := LookupCode(fault.Code); !known ||
				strings.ContainsAny(fault.Message, "\r\n\x00") {
				t.Fatalf("%+v", fault)
			}
		}
	})
}
