package fractal

// Batches: how the request is built, and how the answers are read line by line.

import (
	"encoding/json"
	"strings"
	"testing"
)

func lineRecord(body, pcsID string) *SignedRecord {
	return &SignedRecord{Body: []byte(body), PcsID: pcsID, Content: strings.Repeat("c", 64)}
}

var batchID = strings.Repeat("a", 64)

func batchOutcome(pcsID string, accepted bool) json.RawMessage {
	return outcomeText(pcsID, accepted)
}

// readLines reads an answer of these lines, each a raw text or a value.
func readLines(t *testing.T, records int, requestID string, items ...any) []batchAnswer {
	t.Helper()
	var body []byte
	for _, item := range items {
		line, isRaw := item.(string)
		if !isRaw {
			text, err := json.Marshal(item)
			if err != nil {
				t.Fatal(err)
			}
			line = string(text) + "\n"
		}
		body = append(body, line...)
	}
	signed := make([]*SignedRecord, records)
	for index := range signed {
		signed[index] = lineRecord("{}", batchID)
	}
	response := &Response{Status: 200, Body: body, RequestID: requestID}
	return readBatch(response, signed, 0, 2)
}

func TestABatchIsOneRecordALine(t *testing.T) {
	records := []*SignedRecord{
		lineRecord(`{"a":1}`, batchID), lineRecord("{\n \"b\": \"\\n\"\n}\r\n", batchID),
	}
	token := NewSecret([]byte("t0ken"))
	request, err := batchRequest(RequestFacts{
		Endpoint: "https://a.example/", Agent: "x", Tenant: "acme", Attempt: 2, Token: &token,
	}, records)
	if err != nil {
		t.Fatal(err)
	}
	equal(t, "body", string(request.Body), "{\"a\":1}\n{  \"b\": \"\\n\" }\r \n")
	equal(t, "url", request.Method+" "+request.URL, "POST https://a.example/v1/pcs/batch")
	equal(t, "headers", sentHeaders(request), map[string]string{
		"Content-Type": "application/x-ndjson", "User-Agent": "x", "X-Tenant-Id": "acme",
		"Accept":          "application/x-ndjson, application/problem+json",
		"X-Retry-Attempt": "1",
	})
}

func TestABatchThatCannotBeBuiltIsAnError(t *testing.T) {
	_, err := batchRequest(RequestFacts{Endpoint: "https://a.example", Agent: "line\nend"}, nil)
	equal(t, "code", asError(err).Code, "config_invalid")
}

func TestAnItemIsReadAsTheAnswerOfASingleSubmit(t *testing.T) {
	answers := readLines(t, 1, "request-1", map[string]any{
		"index": 0, "status": 202, "replayed": true, "position": "use/open/1/7",
		"level": "durable", "outcome": batchOutcome(batchID, false),
	})
	submitted := answers[0].submitted
	if submitted == nil {
		t.Fatal(answers[0].err)
	}
	equal(t, "reason", submitted.Outcome.Reason, "n_j_implausible")
	equal(t, "replayed", submitted.Replayed, true)
	equal(t, "position", *submitted.Position, Position{"use", "open", 1, 7})
	equal(t, "attempts", submitted.Raw.Attempts, 2)
	equal(t, "request id", submitted.Raw.RequestID, "request-1")
}

func TestAProblemIsTheErrorOfASingleSubmitAndSpoilsNoOther(t *testing.T) {
	answers := readLines(t, 3, "request-1",
		map[string]any{"index": 0, "status": 409, "problem": map[string]any{
			"code": "pcs_id_conflict", "detail": "other content",
		}},
		map[string]any{"index": 1, "status": 200, "outcome": batchOutcome(batchID, true)},
		map[string]any{"index": 2, "status": 429, "problem": map[string]any{
			"code": "rate_limited", "retry_after_ms": 1500,
		}},
	)
	conflict, limited := answers[0].err, answers[2].err
	equal(t, "code", conflict.Code, "pcs_id_conflict")
	equal(t, "text", conflict.Message, "other content")
	equal(t, "id", conflict.RequestID, "request-1")
	equal(t, "attempts", conflict.Attempts, 2)
	equal(t, "position", answers[1].submitted.Position, nil)
	equal(t, "retry after", limited.RetryAfterMs, int64(1500))
	without := readLines(t, 1, "", map[string]any{"index": 0, "status": 500, "problem": 1})
	equal(t, "no problem at all", without[0].err.Code, "internal")
}

func TestAnItemThatIsNoAnswerIsMalformed(t *testing.T) {
	outcome, otherID := batchOutcome(batchID, true), strings.Repeat("b", 64)
	for _, item := range []any{
		"\n", "{\n", "[]\n", "",
		map[string]any{"index": 1, "status": 200, "outcome": outcome},
		map[string]any{"index": 0, "outcome": outcome},
		map[string]any{"index": 0, "status": "200", "outcome": outcome},
		map[string]any{"index": 0, "status": 200},
		map[string]any{"index": 0, "status": 200, "outcome": nil},
		map[string]any{"index": 0, "status": 200, "outcome": json.RawMessage(`{"a":1e999}`)},
		map[string]any{"index": 0, "status": 200, "outcome": batchOutcome(otherID, true)},
		map[string]any{"index": 0, "status": 204, "outcome": outcome},
		map[string]any{"index": 0, "status": 200, "problem": map[string]any{}},
		map[string]any{"index": 0, "status": 200, "outcome": outcome, "replayed": 1},
		map[string]any{"index": 0, "status": 200, "outcome": outcome, "position": "nowhere"},
		map[string]any{"index": 0, "status": 200, "outcome": outcome, "position": []int{}},
		map[string]any{"index": 0, "status": 200, "outcome": outcome, "level": "certain"},
	} {
		answer := readLines(t, 1, "", item)[0]
		if answer.err == nil || answer.err.Code != "response_malformed" {
			t.Errorf("%v: expected response_malformed, got %v", item, answer.err)
		}
	}
}

func TestALineWithoutAnAnswerIsMalformed(t *testing.T) {
	item := map[string]any{"index": 0, "status": 200, "outcome": batchOutcome(batchID, true)}
	answers := readLines(t, 2, "", item)
	equal(t, "the first", answers[0].err, nil)
	equal(t, "the second", answers[1].err.Code, "response_malformed")
	equal(t, "which", strings.Contains(answers[1].err.Message, "line 1"), true)
}
