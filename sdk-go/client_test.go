package fractal_test

// The client against scripted servers on real sockets; waits pass on a fake clock.

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"strings"
	"sync"
	"testing"

	fractal "fractal-lba.example/sdk-go"
)

func fails(
	t testing.TB,
	c *fractal.Client,
	record fractal.Submittable,
	options ...fractal.CallOption,
) *fractal.Error {
	t.Helper()
	submitted, err := c.Submit(t.Context(), record, options...)
	var fault *fractal.Error
	if !errors.As(err, &fault) {
		t.Fatalf("expected an *Error, got %v and %v", submitted, err)
	}
	return fault
}

func submits(
	t testing.TB,
	c *fractal.Client,
	record fractal.Submittable,
	options ...fractal.CallOption,
) *fractal.Submitted {
	t.Helper()
	submitted, err := c.Submit(t.Context(), record, options...)
	if err != nil {
		t.Fatal(err)
	}
	return submitted
}

// --- every status ---------------------------------------------------------------------------

func TestEveryStatusHasOneTypedResult(t *testing.T) {
	for status, class := range map[int]error{
		200: nil, 202: nil, 400: fractal.ErrAPI, 401: fractal.ErrAuth, 403: fractal.ErrAuth,
		404: fractal.ErrNotFound, 409: fractal.ErrConflict, 413: fractal.ErrAPI,
		422: fractal.ErrAPI, 429: fractal.ErrRateLimit, 500: fractal.ErrAPI, 502: fractal.ErrAPI,
		503: fractal.ErrUnavailable, 504: fractal.ErrAPI,
	} {
		t.Run(fmt.Sprint(status), func(t *testing.T) {
			if class == nil {
				c, _ := client(t, serve(t, recorded(status)).url())
				submitted := submits(t, c, record(1))
				same(t, "accepted", submitted.Outcome.Accepted, status == 200)
				same(t, "position", submitted.Position.String(), "fra/open/1/7")
				same(t, "level", submitted.Level, fractal.Durable)
				same(t, "status", submitted.Raw.Status, status)
				same(t, "request id", submitted.Raw.RequestID, "req-1")
				return
			}
			server := serve(t, refused(status, "").always())
			c, _ := client(t, server.url())
			fault := fails(t, c, record(1))
			same(t, "class", errors.Is(fault, class), true)
			same(t, "status", fault.Status, status)
			same(t, "request id", fault.RequestID, "req-2")
			same(t, "attempts", len(server.seen()), fault.Attempts)
			same(t, "queued", fault.Queued, false)
		})
	}
}

func TestTheCodeOfTheServerIsKept(t *testing.T) {
	for code, one := range map[string]struct {
		status int
		class  error
	}{
		"signature_invalid": {401, fractal.ErrSignature},
		"pcs_id_mismatch":   {422, fractal.ErrValidation},
		"json_malformed":    {400, fractal.ErrValidation},
		"not_primary":       {503, fractal.ErrUnavailable},
	} {
		c, _ := client(t, serve(t, refused(one.status, code).always()).url())
		fault := fails(t, c, record(1))
		same(t, "code", fault.Code, code)
		same(t, code, errors.Is(fault, one.class), true)
	}
}

// --- the request ------------------------------------------------------------------------------

func TestASubmitSendsTheDocumentedHeadersAndNoOther(t *testing.T) {
	server := serve(t, recorded(200))
	token := fractal.NewSecret([]byte("t0ken"))
	c, _ := client(t, server.url(), fractal.WithApp("test/1"), fractal.WithToken(token))
	submits(t, c, record(1))
	request := server.seen()[0]
	signed, err := fractal.Sign(record(1), signerOf(t, testKey, "k1"), "acme")
	if err != nil {
		t.Fatal(err)
	}
	same(t, "request", request.method+" "+request.path, "POST /v1/pcs/submit")
	same(t, "body", string(request.body), string(signed.Body))
	want := map[string]string{
		"host":         strings.TrimPrefix(server.url(), "http://"),
		"accept":       "application/json, application/problem+json",
		"content-type": "application/json", "content-length": fmt.Sprint(len(signed.Body)),
		"user-agent":  "fractal-lba-go-sdk/" + fractal.SDKVersion + " test/1",
		"x-tenant-id": "acme", "idempotency-key": signed.Content,
	}
	if !mapsEqual(request.headers, want) {
		t.Errorf("got %v, want %v", request.headers, want)
	}
}

func mapsEqual(a, b map[string]string) bool {
	if len(a) != len(b) {
		return false
	}
	for name, value := range a {
		if b[name] != value {
			return false
		}
	}
	return true
}

func TestBytesAndKeyAreTheSameInEveryAttempt(t *testing.T) {
	server := serve(t, refused(503, "unavailable"), lost(), recorded(200))
	c, _ := client(t, server.url())
	same(t, "attempts", submits(t, c, record(1)).Raw.Attempts, 3)
	for number, request := range server.seen() {
		same(t, "body", string(request.body), string(server.seen()[0].body))
		same(
			t,
			"key",
			request.headers["idempotency-key"],
			server.seen()[0].headers["idempotency-key"],
		)
		same(t, "attempt", request.headers["x-retry-attempt"], []string{"", "1", "2"}[number])
	}
}

func TestOnlyALevelAboveTheDefaultIsAskedFor(t *testing.T) {
	for _, level := range []string{fractal.Replicated, fractal.Witnessed} {
		server := serve(t, recorded(200).always())
		c, _ := client(t, server.url())
		submits(t, c, record(1), fractal.WithDurability(fractal.Durable))
		submits(t, c, record(1), fractal.WithDurability(level))
		other, _ := client(t, server.url(), fractal.WithDurability(level))
		submits(t, other, record(1))
		for number, want := range []string{"", level, level} {
			same(t, "level", server.seen()[number].headers["pcs-min-ack"], want)
		}
	}
}

func TestTheTenantIsSentOnlyIfItIsSet(t *testing.T) {
	server := serve(t, recorded(200))
	c, err := fractal.New(server.url(), signerOf(t, testKey, ""), fractal.WithSigVersion(1))
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	submits(t, c, record(1))
	request := server.seen()[0]
	_, sent := request.headers["x-tenant-id"]
	same(t, "tenant", sent, false)
	same(t, "version 1", bytes.Contains(request.body, []byte("sig_v")), false)
}

// --- records ----------------------------------------------------------------------------------

func parsed(t testing.TB, text []byte) *fractal.Document {
	t.Helper()
	document, err := fractal.Parse(text)
	if err != nil {
		t.Fatal(err)
	}
	return document
}

func TestTheCallersRecordIsNeverChangedAndTwoClientsMaySignIt(t *testing.T) {
	given, before := record(1), record(1)
	server := serve(t, recorded(200).always())
	first, _ := client(t, server.url())
	second, err := fractal.New(server.url(), signerOf(t, []byte(strings.Repeat("o", 32)), "k2"),
		fractal.WithTenant("other"))
	if err != nil {
		t.Fatal(err)
	}
	defer second.Close()
	var all sync.WaitGroup
	for _, c := range []*fractal.Client{first, second} {
		for range 3 {
			all.Go(func() { submits(t, c, given) })
		}
	}
	all.Wait()
	same(t, "record", fmt.Sprint(given), fmt.Sprint(before))
	bodies, keys := map[string]bool{}, map[string]bool{}
	for _, request := range server.seen() {
		bodies[string(request.body)] = true
		keys[request.headers["idempotency-key"]] = true
	}
	same(t, "bodies, one for each signer", len(bodies), 2)
	same(t, "keys, one for the content", len(keys), 1)
}

func TestAMissingIDIsDerivedAndAWrongOneRefused(t *testing.T) {
	server := serve(t, recorded(200).always())
	c, _ := client(t, server.url())
	text, err := record(1).JSON()
	if err != nil {
		t.Fatal(err)
	}
	id := pcsIDOf(record(1))
	without := bytes.Replace(text, []byte(`"pcs_id":"`+id+`",`), nil, 1)
	same(t, "typed", submits(t, c, record(1)).Outcome.PcsID, id)
	same(t, "without", submits(t, c, parsed(t, without)).Outcome.PcsID, id)
	same(t, "with", submits(t, c, parsed(t, text)).Outcome.PcsID, id)
	for _, request := range server.seen() {
		same(t, "bytes", string(request.body), string(server.seen()[0].body))
	}
	wrong := record(1)
	wrong.PcsID = strings.Repeat("0", 64)
	same(t, "wrong", fails(t, c, wrong).Code, "pcs_id_mismatch")
	wrongText := bytes.Replace(text, []byte(id), []byte(wrong.PcsID), 1)
	same(t, "wrong text", fails(t, c, parsed(t, wrongText)).Code, "pcs_id_mismatch")
	same(t, "requests", len(server.seen()), 3)
}

func TestARecordOutsideItsFormatIsRefusedBeforeAnythingIsSent(t *testing.T) {
	tooLarge := record(1)
	tooLarge.DHat = 4
	noNumber := record(1)
	noNumber.R = math.NaN()
	extra := parsed(
		t,
		bytes.Replace(mustJSON(t, record(1)), []byte(`{`), []byte(`{"extra":1,`), 1),
	)
	var nilDocument *fractal.Document
	var nilSigned *fractal.SignedRecord
	server := serve(t)
	c, _ := client(t, server.url())
	for name, one := range map[string]struct {
		record fractal.Submittable
		code   string
	}{
		"range":   {tooLarge, "number_out_of_range"},
		"finite":  {noNumber, "number_not_finite"},
		"extra":   {extra, "member_unknown"},
		"missing": {parsed(t, []byte(`{"epoch":1}`)), "member_missing"},
		"empty":   {fractal.Record{}, "hex_invalid"},
		"nil":     {nil, "member_type"}, "no document": {nilDocument, "member_type"},
		"not signed": {nilSigned, "member_type"},
	} {
		t.Run(name, func(t *testing.T) {
			fault := fails(t, c, one.record)
			same(t, "class", errors.Is(fault, fractal.ErrValidation), true)
			same(t, "code", fault.Code, one.code)
		})
	}
	connections, _ := server.counts()
	same(t, "connections", connections, 0)
}

func mustJSON(t testing.TB, r fractal.Record) []byte {
	t.Helper()
	text, err := r.JSON()
	if err != nil {
		t.Fatal(err)
	}
	return text
}

func TestASignedRecordGoesOutByteForByte(t *testing.T) {
	signed, err := fractal.Sign(record(1), signerOf(t, testKey, "k1"), "acme")
	if err != nil {
		t.Fatal(err)
	}
	var pretty bytes.Buffer
	if err := json.Indent(&pretty, signed.Body, "", " "); err != nil {
		t.Fatal(err)
	}
	given, err := fractal.ParseSigned(pretty.Bytes())
	if err != nil {
		t.Fatal(err)
	}
	server := serve(t, recorded(200).always())
	c, _ := client(t, server.url())
	unsigning, err := fractal.New(server.url(), nil, fractal.WithTenant("acme"))
	if err != nil {
		t.Fatal(err)
	}
	defer unsigning.Close()
	submits(t, c, given)
	submits(t, unsigning, given)
	submits(t, unsigning, parsed(t, pretty.Bytes()))
	typed, err := fractal.ParseRecord(signed.Body)
	if err != nil {
		t.Fatal(err)
	}
	submits(t, unsigning, typed)
	own, canonical := pretty.String(), string(signed.Body)
	for number, want := range []string{own, own, canonical, canonical} {
		same(t, "body", string(server.seen()[number].body), want)
	}
	same(t, "without a signature", fails(t, unsigning, record(1)).Code, "member_missing")
	same(
		t,
		"without one in the text",
		fails(t, unsigning, parsed(t, mustJSON(t, record(1)))).Code,
		"member_missing",
	)
	broken := &fractal.SignedRecord{Body: []byte("{"), PcsID: given.PcsID, Content: given.Content}
	same(t, "what is no record", fails(t, c, broken).Code, "json_malformed")
}

func TestARecordOverTheLimitIsRefused(t *testing.T) {
	server := serve(t)
	c, _ := client(t, server.url(), fractal.WithMaxRecordBytes(500))
	same(t, "code", fails(t, c, record(1)).Code, "payload_too_large")
}

func TestTheErrorOfASignerIsTheErrorOfTheCall(t *testing.T) {
	away := errors.New("the HSM is away")
	signer, err := fractal.NewFuncSigner(
		fractal.HMAC,
		"k1",
		func([]byte) ([]byte, error) { return nil, away },
	)
	if err != nil {
		t.Fatal(err)
	}
	c, err := fractal.New("https://a.example", signer, fractal.WithTenant("acme"))
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	_, err = c.Submit(t.Context(), record(1))
	same(t, "error", errors.Is(err, away), true)
}
