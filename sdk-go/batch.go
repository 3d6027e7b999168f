package fractal

// This file builds a batch of signed records, and reads its answer line by line.
//
// A batch is newline-delimited JSON: one record a line, one answer a line, in order
// (spec/formats.md 8). An outbox sends one; each line means what a single submit of it would have
// meant, so an answer is read by the same functions as that of a submit. Pure.

import (
	"bytes"
	"fmt"
)

const (
	// maxBatchLines is how many records one batch has at most; the server refuses more.
	maxBatchLines = 1_000

	// maxBatchBytes is the longest batch, and the longest line of its answer.
	maxBatchBytes = 4 << 20

	batchType = "application/x-ndjson"
)

// batchAnswer is what became of one record of a batch.
type batchAnswer struct {
	submitted *Submitted // nil if err says why there is none
	err       *Error
}

// batchRequest builds `POST /v1/pcs/batch`. A line end inside a record is white space between its
// members, because a string holds none raw; it becomes a blank, which no signature sees.
func batchRequest(facts RequestFacts, records []*SignedRecord) (Request, error) {
	var body []byte
	for _, record := range records {
		body = append(body, bytes.ReplaceAll(record.Body, []byte("\n"), []byte(" "))...)
		body = append(body, '\n')
	}
	facts.Token, facts.IdempotencyKey, facts.MinAck = nil, "", ""
	request, err := facts.request("POST", "/v1/pcs/batch", body)
	if err != nil {
		return Request{}, err
	}
	for index := range request.Headers {
		switch header := &request.Headers[index]; header[0] {
		case "Content-Type":
			header[1] = batchType
		case "Accept":
			header[1] = batchType + ", application/problem+json"
		}
	}
	return request, nil
}

// readBatch reads the answer to each record; one that has none is response_malformed.
func readBatch(
	response *Response,
	records []*SignedRecord,
	nowMs int64,
	attempts int,
) []batchAnswer {
	lines := bytes.Split(response.Body, []byte("\n"))
	answers := make([]batchAnswer, len(records))
	for index, record := range records {
		submitted, err := readBatchLine(lines, index, response, record, nowMs, attempts)
		if err != nil {
			answers[index].err = asError(err)
			answers[index].err.Attempts = attempts
			continue
		}
		answers[index].submitted = submitted
	}
	return answers
}

func readBatchLine(
	lines [][]byte, index int, batch *Response, record *SignedRecord, nowMs int64, attempts int,
) (*Submitted, error) {
	if index >= len(lines) || len(lines[index]) == 0 {
		return nil, noBatchLine(index, "expected an answer")
	}
	item, err := ParseValue(lines[index], maxBatchBytes)
	if err != nil {
		return nil, noBatchLine(index, asError(err).Message)
	}
	if at, isInteger := item.Integer("index"); !isInteger || at != int64(index) {
		return nil, noBatchLine(index, "expected an item of that index")
	}
	status, isInteger := item.Integer("status")
	if !isInteger || int64(int(status)) != status {
		return nil, noBatchLine(index, "expected a status")
	}
	response, err := item.lineResponse(int(status), batch, nowMs)
	if err != nil {
		return nil, err
	}
	return ReadSubmitted(response, record.PcsID, attempts)
}

func noBatchLine(index int, what string) *Error {
	return newError("response_malformed", "batch: line %d: %s", index, what)
}

// lineResponse gives an item as the response that a single submit would have had.
func (d *Document) lineResponse(status int, batch *Response, nowMs int64) (*Response, error) {
	requestID := batch.RequestID
	if problem := d.root.find("problem"); problem != nil {
		alone := RawResponse{Status: status, Body: problem.json()}
		if requestID != "" {
			alone.Headers = [][2]string{{"X-Request-Id", requestID}}
		}
		return ReadResponse(alone, nowMs, DefaultResponseLimits())
	}
	response := &Response{Status: status, Headers: map[string]string{}, RequestID: requestID}
	if outcome := d.root.find("outcome"); outcome != nil {
		response.Body = outcome.json()
	}
	for _, header := range [...][2]string{
		{"replayed", "idempotency-replayed"},
		{"position", "pcs-position"},
		{"level", "pcs-level"},
	} {
		if member := d.root.find(header[0]); member != nil {
			response.Headers[header[1]] = member.headerText()
		}
	}
	if watermark, given := batch.Headers["pcs-replicated"]; given {
		response.Headers["pcs-replicated"] = watermark
	}
	return response, nil
}

// json writes a value in RFC 8785 form; one that has none, because a number of it is beyond every
// double, is no JSON text and so unreadable.
func (v *value) json() []byte {
	text, err := appendValue(nil, v)
	if err != nil {
		return nil
	}
	return text
}

// headerText gives a member as the header that a single answer has in its place.
func (v *value) headerText() string {
	switch v.kind {
	case trueKind:
		return "true"
	case falseKind:
		return "false"
	case stringKind:
		return v.text
	}
	return fmt.Sprintf("no text but JSON of kind %d", v.kind)
}
