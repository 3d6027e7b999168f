package fractalotel_test

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	sdkmetric "go.opentelemetry.io/otel/sdk/metric"
	"go.opentelemetry.io/otel/sdk/metric/metricdata"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"
	"go.opentelemetry.io/otel/trace"

	fractal "fractal-lba.example/sdk-go"
	"fractal-lba.example/sdk-go/fractaltest"
	fractalotel "fractal-lba.example/sdk-go/otel"
)

// bench is a traced client over a script.
type bench struct {
	t         *testing.T
	spans     *tracetest.SpanRecorder
	reader    *sdkmetric.ManualReader
	script    *fractaltest.ScriptedTransport
	telemetry *fractalotel.Telemetry
	client    *fractalotel.Client
}

func newBench(t *testing.T, script ...fractaltest.Step) *bench {
	t.Helper()
	b := &bench{t: t, spans: tracetest.NewSpanRecorder(), reader: sdkmetric.NewManualReader()}
	clock := fractaltest.NewFakeClock(fractaltest.StartMs)
	b.script = fractaltest.NewScriptedTransport(clock, script...)
	var err error
	b.telemetry, err = fractalotel.New(
		fractalotel.WithTracerProvider(
			sdktrace.NewTracerProvider(sdktrace.WithSpanProcessor(b.spans)),
		),
		fractalotel.WithMeterProvider(sdkmetric.NewMeterProvider(sdkmetric.WithReader(b.reader))),
	)
	if err != nil {
		t.Fatal(err)
	}
	signer, err := fractal.NewHMACSigner([]byte(strings.Repeat("k", 32)), "k1")
	if err != nil {
		t.Fatal(err)
	}
	client, err := fractal.New(
		"https://a.example:8443",
		signer,
		fractal.WithTenant("secret-tenant"),
		fractal.WithEndpoints(fractal.Endpoint{URL: "https://b.example"}),
		fractal.WithClock(clock),
		fractal.WithTransport(b.telemetry.Transport(b.script)),
		fractal.WithRandom(fractaltest.NewSeededRandom(1)),
		fractal.WithHooks(b.telemetry.Hooks()),
	)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = client.Close() })
	b.client = b.telemetry.Client(client)
	return b
}

func record(epoch uint64) fractal.Record {
	return fractal.Record{
		MerkleRoot: strings.Repeat("3f", 32), Epoch: epoch, ShardID: "otel",
		SentAt: "2026-01-15T12:00:00Z", Scales: []int64{2, 4}, NJ: map[string]int64{"2": 2, "4": 4},
		DHat: 1, CohStar: 0.5, VStar: []float64{1}, R: 0.5, Regime: fractal.Mixed, Budget: 0.35,
	}
}

func attributesOf(span sdktrace.ReadOnlySpan) map[string]string {
	found := map[string]string{}
	for _, each := range span.Attributes() {
		found[string(each.Key)] = each.Value.String()
	}
	return found
}

func expect(t *testing.T, got map[string]string, want map[string]string) {
	t.Helper()
	if len(got) != len(want) {
		t.Errorf("got %v, want %v", got, want)
	}
	for name, value := range want {
		if got[name] != value {
			t.Errorf("%s: got %q, want %q", name, got[name], value)
		}
	}
}

func TestACallIsASpanWithOneBelowItForEachAttempt(t *testing.T) {
	b := newBench(
		t,
		fractaltest.Fault{Code: "connect_failed"},
		fractaltest.Reply{Status: 500},
		fractaltest.Recorded(),
	)
	if _, err := b.client.Submit(t.Context(), record(1)); err != nil {
		t.Fatal(err)
	}
	spans := b.spans.Ended()
	if len(spans) != 4 {
		t.Fatalf("got %d spans", len(spans))
	}
	call := spans[3]
	if call.Name() != "fractal_lba.submit" || call.SpanKind() != trace.SpanKindInternal {
		t.Errorf("got %s %v", call.Name(), call.SpanKind())
	}
	for index, want := range []map[string]string{
		{"server.address": "a.example", "server.port": "8443", "error.type": "connect_failed"},
		{"server.address": "b.example", "http.request.resend_count": "1",
			"http.response.status_code": "500", "error.type": "500"},
		{"server.address": "b.example", "http.request.resend_count": "2",
			"http.response.status_code": "200"},
	} {
		span := spans[index]
		want["http.request.method"] = "POST"
		expect(t, attributesOf(span), want)
		if span.Name() != "POST" || span.SpanKind() != trace.SpanKindClient ||
			span.Parent().SpanID() != call.SpanContext().SpanID() {
			t.Errorf("span %d: %s %v", index, span.Name(), span.SpanKind())
		}
		if (span.Status().Code == codes.Error) != (index < 2) {
			t.Errorf("span %d: status %v", index, span.Status())
		}
		headers := map[string]string{}
		for _, header := range b.script.Requests()[index].Headers {
			headers[header[0]] = header[1]
		}
		context := span.SpanContext()
		traceparent := "00-" + context.TraceID().String() + "-" + context.SpanID().String() + "-01"
		if headers["traceparent"] != traceparent {
			t.Errorf("traceparent: got %q, want %q", headers["traceparent"], traceparent)
		}
	}
}

func TestACallThatFailsMarksItsSpanWithTheCode(t *testing.T) {
	b := newBench(
		t,
		fractaltest.Reply{Status: 409},
		fractaltest.Reply{Status: 404},
		fractaltest.Recorded(),
	)
	_, submitted := b.client.Submit(t.Context(), record(1))
	_, got := b.client.Get(t.Context(), strings.Repeat("a", 64))
	items := b.client.SubmitMany(t.Context(), []fractal.Record{record(2)})
	if !errors.Is(submitted, fractal.ErrConflict) || !errors.Is(got, fractal.ErrNotFound) ||
		items[0].Err != nil {
		t.Fatal(submitted, got, items)
	}
	spans := b.spans.Ended()
	expect(t, attributesOf(spans[1]), map[string]string{"error.type": "pcs_id_conflict"})
	expect(t, attributesOf(spans[3]), map[string]string{"error.type": "not_found"})
	names := spans[1].Name() + " " + spans[3].Name() + " " + spans[5].Name()
	if names != "fractal_lba.submit fractal_lba.get fractal_lba.submit_many" {
		t.Errorf("got %s", names)
	}
}

// collect gives the sums of what was counted, by name, and checks what attributes may say.
func (b *bench) collect() map[string]float64 {
	b.t.Helper()
	var all metricdata.ResourceMetrics
	if err := b.reader.Collect(b.t.Context(), &all); err != nil {
		b.t.Fatal(err)
	}
	found := map[string]float64{}
	for _, scope := range all.ScopeMetrics {
		for _, each := range scope.Metrics {
			switch data := each.Data.(type) {
			case metricdata.Histogram[float64]:
				for _, point := range data.DataPoints {
					found[each.Name] += float64(point.Count)
					b.checkAttributes(point.Attributes)
				}
			case metricdata.Sum[int64]:
				for _, point := range data.DataPoints {
					found[each.Name] += float64(point.Value)
					b.checkAttributes(point.Attributes)
				}
			case metricdata.Gauge[int64]:
				found[each.Name] = float64(data.DataPoints[0].Value)
			case metricdata.Gauge[float64]:
				found[each.Name] = data.DataPoints[0].Value
			}
		}
	}
	return found
}

func (b *bench) checkAttributes(set attribute.Set) {
	b.t.Helper()
	for _, each := range set.ToSlice() {
		text := each.Value.String()
		if strings.Contains(text, "secret-tenant") || len(text) >= 64 ||
			strings.Contains(text, "/") {
			b.t.Errorf("a metric says %s = %s", each.Key, text)
		}
	}
}

func TestMetricsCountAttemptsRetriesAndFailoversWithoutIDsOrTenants(t *testing.T) {
	b := newBench(
		t,
		fractaltest.Reply{Status: 503},
		fractaltest.Recorded(),
		fractaltest.Reply{Status: 404},
	)
	if _, err := b.client.Submit(t.Context(), record(1)); err != nil {
		t.Fatal(err)
	}
	_, _ = b.client.Get(t.Context(), strings.Repeat("a", 64))
	found := b.collect()
	for name, want := range map[string]float64{
		"http.client.request.duration": 3, "fractal_lba.client.retries": 1,
		"fractal_lba.client.failovers": 1,
	} {
		if found[name] != want {
			t.Errorf("%s: got %v, want %v", name, found[name], want)
		}
	}
}

func TestAnOutboxIsObservedUntilItIsNot(t *testing.T) {
	b := newBench(t)
	path := filepath.Join(t.TempDir(), "outbox")
	outbox, err := fractal.OpenOutbox(path, fractal.WithBackground(false))
	if err != nil {
		t.Fatal(err)
	}
	defer outbox.Close()
	stop, err := b.telemetry.ObserveOutbox(outbox)
	if err != nil {
		t.Fatal(err)
	}
	if found := b.collect(); found["fractal_lba.outbox.entries"] != 0 ||
		found["fractal_lba.outbox.age"] != 0 {
		t.Errorf("got %v", found)
	}
	signer, err := fractal.NewHMACSigner([]byte(strings.Repeat("k", 32)), "k1")
	if err != nil {
		t.Fatal(err)
	}
	client, err := fractal.New(
		"https://a.example",
		signer,
		fractal.WithTenant("acme"),
		fractal.WithOutbox(outbox),
	)
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	kept := record(1)
	kept.SentAt = time.Now().Add(-time.Hour).UTC().Format(time.RFC3339)
	if _, err := client.Enqueue(t.Context(), kept); err != nil {
		t.Fatal(err)
	}
	found := b.collect()
	held, observed := found["fractal_lba.outbox.held"]
	if held != 0 || !observed {
		t.Errorf("got %v", found)
	}
	if found["fractal_lba.outbox.entries"] != 1 || found["fractal_lba.outbox.bytes"] == 0 ||
		found["fractal_lba.outbox.age"] < 3600 {
		t.Errorf("got %v", found)
	}
	if err := stop(); err != nil {
		t.Fatal(err)
	}
	if _, observed := b.collect()["fractal_lba.outbox.entries"]; observed {
		t.Error("observed after the end")
	}
}

func TestTheMainModuleDoesNotNeedOpenTelemetry(t *testing.T) {
	text, err := os.ReadFile("../go.mod")
	if err != nil {
		t.Fatal(err)
	}
	if strings.Contains(string(text), "require") {
		t.Errorf("sdk-go requires: %s", text)
	}
}
