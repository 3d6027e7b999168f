package fractal

// This file builds requests: values in, bytes out, no socket (spec/formats.md 12.1 to 12.3). It
// owns header names, and what of a request and a response may be logged.

import (
	"net/url"
	"strconv"
	"strings"
)

const (
	acceptTypes = "application/json, application/problem+json"
	jsonType    = "application/json"

	// maxTenantCharacters is the longest tenant that any server has.
	maxTenantCharacters = 64
)

// Request holds one HTTP request as it goes out.
type Request struct {
	Method  string
	URL     string
	Headers [][2]string
	Body    []byte
}

// RequestFacts are what varies between requests. What is "", or nil, is not sent.
type RequestFacts struct {
	Endpoint       string
	Agent          string
	Tenant         string
	Token          *Secret // of an outcome's request only: a submit is its own proof
	IdempotencyKey string
	Attempt        int // from 1; the first has no X-Retry-Attempt
	MinAck         string
	Traceparent    string
}

// SubmitRequest builds `POST /v1/pcs/submit` of a signed body, the same bytes in every attempt.
// It carries no token: the signature is one.
func SubmitRequest(facts RequestFacts, body []byte) (Request, error) {
	facts.Token = nil
	return facts.request("POST", "/v1/pcs/submit", body)
}

// OutcomeRequest builds `GET /v1/pcs/<pcs_id>`, which needs the tenant's read token.
func OutcomeRequest(facts RequestFacts, pcsID string) (Request, error) {
	if !isHex(pcsID, 64) {
		return Request{}, newError("hex_invalid", "pcs_id: expected 64 characters 0-9 a-f")
	}
	facts.IdempotencyKey, facts.MinAck = "", ""
	return facts.request("GET", "/v1/pcs/"+pcsID, nil)
}

// HealthRequest builds `GET /health`: 200 only if the region takes writes now.
func HealthRequest(facts RequestFacts) (Request, error) {
	anonymous := RequestFacts{Endpoint: facts.Endpoint, Agent: facts.Agent}
	return anonymous.request("GET", "/health", nil)
}

func (f *RequestFacts) request(method, path string, body []byte) (Request, error) {
	request := Request{
		Method: method, URL: strings.TrimRight(f.Endpoint, "/") + path, Body: body,
		Headers: make([][2]string, 0, 9),
	}
	authorization, retry, contentType := "", "", ""
	if body != nil {
		contentType = jsonType
	}
	if f.Token != nil {
		authorization = "Bearer " + string(f.Token.Reveal())
	}
	if f.Attempt > 1 {
		retry = strconv.Itoa(f.Attempt - 1)
	}
	for _, header := range [...][2]string{
		{"Accept", acceptTypes},
		{"User-Agent", f.Agent},
		{"Content-Type", contentType},
		{"X-Tenant-Id", f.Tenant},
		{"Authorization", authorization},
		{"Idempotency-Key", f.IdempotencyKey},
		{"X-Retry-Attempt", retry},
		{"PCS-Min-Ack", f.MinAck},
		{"traceparent", f.Traceparent},
	} {
		if header[1] == "" {
			continue
		}
		if err := checkHeaderValue(header[0], header[1]); err != nil {
			return Request{}, err
		}
		request.Headers = append(request.Headers, header)
	}
	return request, nil
}

// checkHeaderValue refuses what cannot be the value of a header: config_invalid. The value is
// not shown, it may be a token.
func checkHeaderValue(name, value string) error {
	printable := hasOnly(value, func(c byte) bool { return ' ' <= c && c <= '~' })
	if !printable || value == "" || value != strings.TrimSpace(value) {
		return newError("config_invalid", "%s: expected printable ASCII", name)
	}
	return nil
}

// checkTenant refuses a tenant that no server has: config_invalid. "" is no tenant.
func checkTenant(tenant string) error {
	if len(tenant) > maxTenantCharacters || !hasOnly(tenant, isNameCharacter) {
		return newError("config_invalid",
			"tenant: expected 1 to %d of A-Z a-z 0-9 . _ -", maxTenantCharacters)
	}
	return nil
}

func isNameCharacter(c byte) bool {
	return isRegionCharacter(c) || 'A' <= c && c <= 'Z' || c == '.' || c == '_'
}

// --- logs -----------------------------------------------------------------------------------

// loggedHeaders are the only header names whose values may be logged (spec/formats.md 12.12).
var loggedHeaders = map[string]bool{
	"content-type":         true,
	"content-length":       true,
	"date":                 true,
	"retry-after":          true,
	"x-request-id":         true,
	"x-retry-attempt":      true,
	"x-should-retry":       true,
	"idempotency-key":      true,
	"idempotency-replayed": true,
	"pcs-position":         true,
	"pcs-level":            true,
	"pcs-replicated":       true,
}

// loggableHeaders keeps the fields that may be logged, by lower-case name.
func loggableHeaders(fields [][2]string) map[string]string {
	kept := joinHeaders(fields)
	for name := range kept {
		if !loggedHeaders[name] {
			delete(kept, name)
		}
	}
	return kept
}

// loggableURL cuts user-info, query and fragment from a URL; one that cannot be read is not
// shown at all.
func loggableURL(text string) string {
	parts, err := url.Parse(text)
	if err != nil {
		return mask
	}
	return parts.Scheme + "://" + parts.Host + parts.EscapedPath()
}
