package fractalotel

import (
	"context"
	"net/url"
	"strconv"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric"

	fractal "fractal-lba.example/sdk-go"
)

// durationBounds are the bounds, in seconds, that the semantic conventions advise.
var durationBounds = []float64{
	0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1, 2.5, 5, 7.5, 10,
}

type metrics struct {
	meter     metric.Meter
	durations metric.Float64Histogram
	retries   metric.Int64Counter
	failovers metric.Int64Counter
}

func newMetrics(meter metric.Meter) (*metrics, error) {
	durations, err := meter.Float64Histogram("http.client.request.duration", metric.WithUnit("s"),
		metric.WithDescription("Duration of HTTP client requests."),
		metric.WithExplicitBucketBoundaries(durationBounds...))
	if err != nil {
		return nil, err
	}
	retries, err := meter.Int64Counter("fractal_lba.client.retries", metric.WithUnit("{retry}"),
		metric.WithDescription("Attempts that were followed by another one."))
	if err != nil {
		return nil, err
	}
	failovers, err := meter.Int64Counter("fractal_lba.client.failovers",
		metric.WithUnit("{failover}"),
		metric.WithDescription("Calls that went on at another endpoint."))
	if err != nil {
		return nil, err
	}
	return &metrics{meter, durations, retries, failovers}, nil
}

// Hooks gives the hooks that count: fractal.WithHooks takes them.
func (t *Telemetry) Hooks() fractal.Hooks {
	ctx := context.Background()
	return fractal.Hooks{
		OnAttempt: func(event fractal.AttemptEvent) {
			seconds := (time.Duration(event.ElapsedMs) * time.Millisecond).Seconds()
			t.metrics.durations.Record(
				ctx,
				seconds,
				metric.WithAttributes(attemptAttributes(event)...),
			)
		},
		OnRetry: func(event fractal.RetryEvent) {
			t.metrics.retries.Add(ctx, 1, metric.WithAttributes(
				attribute.String("error.type", event.Code)))
		},
		OnFailover: func(event fractal.FailoverEvent) {
			t.metrics.failovers.Add(ctx, 1, metric.WithAttributes(serverOf(event.ToURL)...))
		},
	}
}

func attemptAttributes(event fractal.AttemptEvent) []attribute.KeyValue {
	attributes := append(
		serverOf(event.URL),
		attribute.String("http.request.method", event.Method),
	)
	if event.Status != 0 {
		attributes = append(attributes, attribute.Int("http.response.status_code", event.Status))
	}
	if event.Code != "" {
		attributes = append(attributes, attribute.String("error.type", event.Code))
	}
	return attributes
}

// serverOf names host and port of a URL; the path may hold an id.
func serverOf(address string) []attribute.KeyValue {
	parts, err := url.Parse(address)
	if err != nil {
		return nil
	}
	attributes := []attribute.KeyValue{attribute.String("server.address", parts.Hostname())}
	if port, err := strconv.Atoi(parts.Port()); err == nil {
		attributes = append(attributes, attribute.Int("server.port", port))
	}
	return attributes
}

// ObserveOutbox reports entries, held ones, bytes and age of an outbox whenever metrics are
// collected, until stop is called; call it before the outbox is closed.
func (t *Telemetry) ObserveOutbox(outbox *fractal.Outbox) (stop func() error, err error) {
	meter := t.metrics.meter
	entries, err := meter.Int64ObservableGauge("fractal_lba.outbox.entries",
		metric.WithUnit("{entry}"), metric.WithDescription("Entries that are not released yet."))
	if err != nil {
		return nil, err
	}
	held, err := meter.Int64ObservableGauge("fractal_lba.outbox.held", metric.WithUnit("{entry}"),
		metric.WithDescription("Entries that are acknowledged and not yet replicated."))
	if err != nil {
		return nil, err
	}
	size, err := meter.Int64ObservableGauge("fractal_lba.outbox.bytes", metric.WithUnit("By"),
		metric.WithDescription("Bytes of entries and dead letters."))
	if err != nil {
		return nil, err
	}
	age, err := meter.Float64ObservableGauge("fractal_lba.outbox.age", metric.WithUnit("s"),
		metric.WithDescription("Time since sent_at of the oldest entry, 0 without one."))
	if err != nil {
		return nil, err
	}
	observe := func(_ context.Context, observer metric.Observer) error {
		stats := outbox.Stats()
		observer.ObserveInt64(entries, int64(stats.Entries))
		observer.ObserveInt64(held, int64(stats.Held))
		observer.ObserveInt64(size, stats.Bytes)
		oldest := 0.0
		if stats.Entries > 0 {
			oldest = max(0, time.Since(time.UnixMilli(stats.OldestSentAtMs)).Seconds())
		}
		observer.ObserveFloat64(age, oldest)
		return nil
	}
	registered, err := meter.RegisterCallback(observe, entries, held, size, age)
	if err != nil {
		return nil, err
	}
	return registered.Unregister, nil
}
