package fractal_test

// One test against a real server. `FLK_SERVER_URL` names it; its tenant `demo` has the key `demo`,
// whose bytes are in PCS_HMAC_KEY (hexadecimal). FLK_READ_TOKEN is its read token, if reads are
// to be tested too.

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"testing"
	"time"

	fractal "fractal-lba.example/sdk-go"
)

func TestARealServerRecordsReplaysAndRefuses(t *testing.T) {
	url := os.Getenv("FLK_SERVER_URL")
	if url == "" {
		t.Skip("FLK_SERVER_URL is not set: no server to ask")
	}
	t.Setenv("PCS_KID", "demo")
	signer, err := fractal.SignerFromEnv(os.Getenv)
	if err != nil {
		t.Fatal(err)
	}
	box := openBox(t, filepath.Join(t.TempDir(), "outbox"))
	token := fractal.NewSecret([]byte(os.Getenv("FLK_READ_TOKEN")))
	options := []fractal.Option{fractal.WithTenant("demo"), fractal.WithToken(token)}
	c, err := fractal.New(url, signer, options...)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	same(t, "healthy", c.Health(t.Context())[0].OK, true)
	given := fresh(uint64(time.Now().UnixNano() >> 12))
	first, again := submits(t, c, given), submits(t, c, given)
	same(t, "replayed", first.Replayed || !again.Replayed, false)
	same(t, "bytes", bytes.Equal(first.Raw.Body, again.Raw.Body), true)
	other := given
	other.R = 0.25
	same(t, "conflict", errors.Is(fails(t, c, other), fractal.ErrConflict), true)
	if len(token.Reveal()) > 0 {
		outcome, err := c.Get(t.Context(), first.Outcome.PcsID)
		if err != nil {
			t.Fatal(err)
		}
		same(t, "outcome", *outcome, first.Outcome)
	}
	kept, err := fractal.New(url, signer, append(options, fractal.WithOutbox(box))...)
	if err != nil {
		t.Fatal(err)
	}
	defer kept.Close()
	for number := range uint64(3) {
		if _, err := kept.Enqueue(t.Context(), fresh(given.Epoch+1+number)); err != nil {
			t.Fatal(err)
		}
	}
	flushes(t, kept, longTime)
	holds(t, "after the flush", box, 0, 0)
}

// fresh gives a record of now.
func fresh(number uint64) fractal.Record {
	made := record(number)
	made.SentAt = time.Now().UTC().Format(time.RFC3339)
	return made
}
