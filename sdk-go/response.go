package fractal

// This file reads responses: bytes in, values or an error out, no socket (spec/formats.md 12.4 to
// 12.11). It owns the limits on a response, and the step from a problem to an Error.

import (
	"slices"
	"strconv"
	"strings"
)

const (
	// MaxResponseBytes is the longest response body; over it is an error, not a truncation.
	MaxResponseBytes = 1 << 20

	// MaxResponseHeaders is how many header fields one response has at most.
	MaxResponseHeaders = 100

	// maxDetailCharacters is the longest part of a problem's text that goes into a message; the
	// rest is in Body.
	maxDetailCharacters = 500

	// maxRequestIDCharacters is the longest request id that is kept.
	maxRequestIDCharacters = 64
)

// statusCodes are the codes of an error response that names none, or none that is known.
var statusCodes = map[int]string{
	400: "bad_request",
	401: "unauthorized",
	403: "forbidden",
	404: "not_found",
	405: "method_not_allowed",
	408: "request_timeout",
	409: "pcs_id_conflict",
	413: "payload_too_large",
	415: "unsupported_media_type",
	421: "wrong_region",
	422: "unprocessable",
	423: "frozen",
	425: "too_early",
	429: "rate_limited",
	431: "header_too_large",
	500: "internal",
	502: "bad_gateway",
	503: "unavailable",
	504: "gateway_timeout",
}

// RawResponse holds one HTTP response as it came in.
type RawResponse struct {
	Status  int
	Headers [][2]string
	Body    []byte
}

// ResponseLimits bound what is read of a response.
type ResponseLimits struct {
	Bytes   int
	Headers int
}

// DefaultResponseLimits gives the limits of spec/formats.md 12.6.
func DefaultResponseLimits() ResponseLimits {
	return ResponseLimits{Bytes: MaxResponseBytes, Headers: MaxResponseHeaders}
}

// Response holds a 2xx response whose size is within the limits. Headers have lower-case names;
// several fields of one name are joined by ", ".
type Response struct {
	Status    int
	Headers   map[string]string
	Body      []byte
	RequestID string
}

// LeaderHint says where a 421 or 423 points.
type LeaderHint struct {
	Endpoint    string
	RegionEpoch uint64
}

// joinHeaders indexes header fields by lower-case name.
func joinHeaders(fields [][2]string) map[string]string {
	joined := make(map[string]string, len(fields))
	for _, field := range fields {
		name := strings.ToLower(field[0])
		if before, again := joined[name]; again {
			joined[name] = before + ", " + field[1]
		} else {
			joined[name] = field[1]
		}
	}
	return joined
}

// ReadResponse gives a 2xx response, or the *Error that the response is. nowMs (Unix) is what a
// Retry-After date is measured against if the response has no Date. A redirect is never
// followed: it is response_malformed.
func ReadResponse(raw RawResponse, nowMs int64, limits ResponseLimits) (*Response, error) {
	headers := joinHeaders(raw.Headers)
	requestID := headers["x-request-id"]
	if !isRequestID(requestID) {
		requestID = ""
	}
	response := &Response{raw.Status, headers, raw.Body, requestID}
	switch {
	case len(raw.Headers) > limits.Headers:
		return nil, response.tooLarge("response: expected at most %d headers", limits.Headers)
	case len(raw.Body) > limits.Bytes:
		return nil, response.tooLarge("response: expected at most %d bytes", limits.Bytes)
	case 200 <= raw.Status && raw.Status < 300:
		return response, nil
	case raw.Status < 400 || 600 <= raw.Status:
		return nil, response.fault("response_malformed",
			"response: expected a 2xx, 4xx or 5xx status, got %d", raw.Status)
	}
	return nil, response.refusal(raw.Headers, nowMs)
}

func isRequestID(text string) bool {
	return 1 <= len(text) && len(text) <= maxRequestIDCharacters && hasOnly(text, isNameCharacter)
}

func (r *Response) fault(code, format string, args ...any) *Error {
	err := newError(code, format, args...)
	err.Status, err.RequestID, err.Headers, err.Body = r.Status, r.RequestID, r.Headers, r.Body
	return err
}

// tooLarge leaves out the body, which is what is too large, or comes with what is.
func (r *Response) tooLarge(format string, limit int) *Error {
	err := r.fault("response_too_large", format, limit)
	err.Body = nil
	return err
}

// refusal turns a 4xx or 5xx into the error its problem names, or its status (12.7, 12.10).
func (r *Response) refusal(fields [][2]string, nowMs int64) *Error {
	problem := readProblem(r.Body)
	code := problem.text("code")
	if codes[code].Status == 0 {
		code = r.statusCode()
	}
	err := r.fault(code, "%s", problem.detail(r.Status))
	if id := problem.text("request_id"); err.RequestID == "" && isRequestID(id) {
		err.RequestID = id
	}
	err.Pointer, err.HasPointer = problem.Text("pointer")
	var asked []string
	for _, field := range fields {
		if strings.EqualFold(field[0], "retry-after") {
			asked = append(asked, field[1])
		}
	}
	err.RetryAfterMs, err.HasRetryAfter = ParseRetryAfter(asked, r.Headers["date"], nowMs)
	if ms, ok := problem.natural("retry_after_ms"); ok {
		err.RetryAfterMs, err.HasRetryAfter = max(err.RetryAfterMs, ms), true
	}
	return err
}

func (r *Response) statusCode() string {
	if code, known := statusCodes[r.Status]; known {
		return code
	}
	if r.Status < 500 {
		return "bad_request"
	}
	return "internal"
}

// readProblem reads a problem; what cannot be read has no members, and the status decides.
func readProblem(body []byte) *Document {
	document, fault := parseObject(body, len(body))
	if fault != nil {
		return &Document{value{kind: objectKind}}
	}
	return document
}

// natural gives a lexical integer from 0; one above 2^53 - 1 counts as that (spec/retry.md 22, 42).
func (d *Document) natural(name string) (n int64, ok bool) {
	found := d.root.find(name)
	if found == nil || found.kind != integerKind || found.text[0] == '-' {
		return 0, false
	}
	n, ok = found.integer()
	if !ok {
		return maxSafeInteger, true
	}
	return n, true
}

// detail gives one printable line: a server's text must not break a log.
func (d *Document) detail(status int) string {
	for _, name := range []string{"detail", "title"} {
		if text := d.text(name); text != "" {
			return oneLine(text)
		}
	}
	return "the server answered " + strconv.Itoa(status)
}

// oneLine puts one blank in the place of control characters, and cuts.
func oneLine(text string) string {
	var line strings.Builder
	count, control := 0, false
	for _, character := range text {
		if character < ' ' || 0x7F <= character && character <= 0x9F {
			if control {
				continue
			}
			character = ' '
			control = true
		} else {
			control = false
		}
		if count++; count > maxDetailCharacters {
			break
		}
		line.WriteRune(character)
	}
	return line.String()
}

// leaderHint reads where a 421 or 423 points. Whether to follow is for Fleet.Hinted to say.
func leaderHint(err *Error) (hint LeaderHint, ok bool) {
	if err.Status != 421 && err.Status != 423 {
		return LeaderHint{}, false
	}
	found, ok := readProblem(err.Body).Object("leader_hint")
	if !ok {
		return LeaderHint{}, false
	}
	endpoint, named := found.Text("endpoint")
	epoch, counted := found.Integer("region_epoch")
	if !named || !counted || epoch < 0 {
		return LeaderHint{}, false
	}
	return LeaderHint{Endpoint: endpoint, RegionEpoch: uint64(epoch)}, true
}

// ReadOutcome reads the outcome of pcsID, or gives the *Error response_malformed. After a submit
// that means: recorded, but the answer cannot be used; sending again is no help.
func ReadOutcome(response *Response, pcsID string) (*Outcome, error) {
	if response.Status != 200 && response.Status != 202 {
		return nil, response.fault("response_malformed",
			"response: expected 200 or 202, got %d", response.Status)
	}
	outcome, fault := parseOutcome(response.Body, len(response.Body))
	if fault != nil {
		return nil, response.fault("response_malformed", "%s", fault.Message)
	}
	if outcome.PcsID != pcsID {
		return nil, response.fault("response_malformed",
			"outcome: expected pcs_id %s, got %s", pcsID, outcome.PcsID)
	}
	return outcome, nil
}

// ReadSubmitted reads the answer to a submit: the outcome, and the facts of the exchange in
// headers (spec/formats.md 12.5).
func ReadSubmitted(response *Response, pcsID string, attempts int) (*Submitted, error) {
	outcome, err := ReadOutcome(response, pcsID)
	if err != nil {
		return nil, err
	}
	submitted := &Submitted{
		Outcome: *outcome,
		Level:   Durable,
		Raw: Raw{
			response.Status, response.Headers, response.Body, response.RequestID, attempts,
		},
	}
	if replayed, given := response.Headers["idempotency-replayed"]; given {
		if replayed != "true" && replayed != "false" {
			return nil, response.fault("response_malformed",
				"Idempotency-Replayed: expected true or false")
		}
		submitted.Replayed = replayed == "true"
	}
	if level, given := response.Headers["pcs-level"]; given {
		if !slices.Contains(levels, level) {
			return nil, response.fault("response_malformed",
				"PCS-Level: expected one of %s", strings.Join(levels, ", "))
		}
		submitted.Level = level
	}
	var fault *Error
	if submitted.Position, fault = response.place("PCS-Position"); fault != nil {
		return nil, fault
	}
	if submitted.Replicated, fault = response.place("PCS-Replicated"); fault != nil {
		return nil, fault
	}
	return submitted, nil
}

// place reads a header that is a position, nil where there is none.
func (r *Response) place(header string) (*Position, *Error) {
	text, given := r.Headers[strings.ToLower(header)]
	if !given {
		return nil, nil
	}
	position, ok := parsePosition(text)
	if !ok {
		return nil, r.fault("response_malformed", "%s: not a position", header)
	}
	return &position, nil
}
