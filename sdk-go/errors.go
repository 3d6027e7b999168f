package fractal

// This file owns the one error type and the classes that errors.Is knows. The closed list of
// codes is codes.go, which a test holds equal to spec/errors.json.
//
//	ErrConfig       an option is wrong
//	ErrValidation   a record, or its text, is outside the specification
//	ErrSignature    a key or a signature is wrong
//	ErrProof        a receipt or its proof does not hold
//	ErrOutbox       the durable outbox cannot take or keep an entry
//	ErrCancelled    the caller cancelled
//	ErrConnection   no answer: the network
//	ErrTimeout      no answer in time
//	ErrAPI          the server refused
//	 +- ErrAuth 401 403     +- ErrNotFound 404      +- ErrConflict 409
//	 +- ErrRateLimit 429    +- ErrUnavailable 503

import (
	"fmt"
	"math"
	"time"
)

// errorClass is a target of errors.Is; it is never returned by itself.
type errorClass struct {
	name   string
	parent *errorClass
}

func (c *errorClass) Error() string { return "fractal: " + c.name }

var apiClass = &errorClass{name: "APIError"}

var classes = map[string]*errorClass{
	"ConfigError":      {name: "ConfigError"},
	"ValidationError":  {name: "ValidationError"},
	"SignatureError":   {name: "SignatureError"},
	"ProofError":       {name: "ProofError"},
	"OutboxError":      {name: "OutboxError"},
	"CancelledError":   {name: "CancelledError"},
	"ConnectionError":  {name: "ConnectionError"},
	"TimeoutError":     {name: "TimeoutError"},
	"APIError":         apiClass,
	"AuthError":        {name: "AuthError", parent: apiClass},
	"NotFoundError":    {name: "NotFoundError", parent: apiClass},
	"ConflictError":    {name: "ConflictError", parent: apiClass},
	"RateLimitError":   {name: "RateLimitError", parent: apiClass},
	"UnavailableError": {name: "UnavailableError", parent: apiClass},
}

// The classes of errors, for errors.Is. A program that needs to tell errors apart reads
// Error.Code; the class is a coarser choice.
var (
	ErrConfig      error = classes["ConfigError"]
	ErrValidation  error = classes["ValidationError"]
	ErrSignature   error = classes["SignatureError"]
	ErrProof       error = classes["ProofError"]
	ErrOutbox      error = classes["OutboxError"]
	ErrCancelled   error = classes["CancelledError"]
	ErrConnection  error = classes["ConnectionError"]
	ErrTimeout     error = classes["TimeoutError"]
	ErrAPI         error = classes["APIError"]
	ErrAuth        error = classes["AuthError"]
	ErrNotFound    error = classes["NotFoundError"]
	ErrConflict    error = classes["ConflictError"]
	ErrRateLimit   error = classes["RateLimitError"]
	ErrUnavailable error = classes["UnavailableError"]
)

// CodeInfo describes one code of the closed list spec/errors.json.
type CodeInfo struct {
	Code      string
	Class     string
	Fault     string // "caller", "server" or "network"
	Status    int    // the HTTP status that carries it; 0: never sent by a server
	Retryable bool
	Sentence  string
}

// LookupCode describes a code, and says whether the closed list has it.
func LookupCode(code string) (CodeInfo, bool) {
	info, known := codes[code]
	return info, known
}

// Error carries one code of the closed list and the facts of the exchange that led to it.
type Error struct {
	Code    string
	Message string
	// Pointer is the JSON pointer of the member at fault. "" is the pointer of the whole record,
	// so HasPointer says whether there is one.
	Pointer    string
	HasPointer bool
	// Status is the HTTP status of the answer, 0 without an answer.
	Status    int
	RequestID string
	// RetryAfterMs is what the server asked for, if HasRetryAfter.
	RetryAfterMs  int64
	HasRetryAfter bool
	Attempts      int
	// Headers of the answer have lower-case names; several fields of one name are joined by ", ".
	// They and the body may hold anything, so no text form of the error shows them.
	Headers map[string]string `json:"-"`
	Body    []byte            `json:"-"`
	// Stop says why a call ended: one of the stop reasons of PlanRetry, "" where none was sent.
	Stop string
	// Queued says that the record stays in the outbox.
	Queued bool
	// Err is the cause, if there is one.
	Err error
}

// Error gives code, message and request id; never a key or a signature.
func (e *Error) Error() string {
	text := e.Code + ": " + e.Message
	if e.RequestID != "" {
		text += " (request " + e.RequestID + ")"
	}
	return text
}

// GoString is Error: the fields hold what a server sent (spec/formats.md 12.12).
func (e *Error) GoString() string { return "fractal.Error(" + e.Error() + ")" }

// Unwrap gives the cause, such as context.Canceled.
func (e *Error) Unwrap() error { return e.Err }

// Is says whether target is the class of this error, or the class above it.
func (e *Error) Is(target error) bool {
	wanted, isClass := target.(*errorClass)
	if !isClass {
		return false
	}
	for class := classes[e.Class()]; class != nil; class = class.parent {
		if class == wanted {
			return true
		}
	}
	return false
}

// Class names the class that the closed list gives the code; "" for a code it does not have.
func (e *Error) Class() string { return codes[e.Code].Class }

// Fault names whose fault it is: "caller", "server" or "network".
func (e *Error) Fault() string {
	if info, known := codes[e.Code]; known {
		return info.Fault
	}
	if e.Status >= 500 {
		return "server"
	}
	return "caller"
}

// RetryAfter gives what the server asked for, and whether it asked. A wait longer than a
// time.Duration can hold is the longest Duration.
func (e *Error) RetryAfter() (time.Duration, bool) {
	if e.RetryAfterMs > math.MaxInt64/int64(time.Millisecond) {
		return math.MaxInt64, e.HasRetryAfter
	}
	return time.Duration(e.RetryAfterMs) * time.Millisecond, e.HasRetryAfter
}

func newError(code, format string, args ...any) *Error {
	return &Error{Code: code, Message: fmt.Sprintf(format, args...)}
}

// at names the member at fault.
func (e *Error) at(pointer string) *Error {
	e.Pointer, e.HasPointer = pointer, true
	return e
}
