// Package fractalotel gives the traces and metrics of OpenTelemetry to clients of package fractal.
// It is a module of its own, so that the SDK needs nothing but the standard library, and it uses
// what every program could: hooks, and a transport around a transport.
//
//	telemetry, err := fractalotel.New()
//	transport, err := fractal.NewTransport(fractal.DefaultTransportOptions())
//	client, err := fractal.New("https://eu.example", signer, fractal.WithTenant("acme"),
//		fractal.WithTransport(telemetry.Transport(transport)),
//		fractal.WithHooks(telemetry.Hooks()))
//	traced := telemetry.Client(client)
//	submitted, err := traced.Submit(ctx, record)
//
// A call is one INTERNAL span `fractal_lba.submit`, each attempt a CLIENT span below it, whose
// traceparent the request carries. No metric has a pcs_id or a tenant as an attribute.
package fractalotel

import (
	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/metric"
	"go.opentelemetry.io/otel/trace"

	fractal "fractal-lba.example/sdk-go"
)

const scope = "fractal-lba.example/sdk-go/otel"

// Option is an option of New.
type Option func(*settings)

type settings struct {
	tracers trace.TracerProvider
	meters  metric.MeterProvider
}

// WithTracerProvider takes another provider of tracers than the global one.
func WithTracerProvider(tracers trace.TracerProvider) Option {
	return func(s *settings) { s.tracers = tracers }
}

// WithMeterProvider takes another provider of meters than the global one.
func WithMeterProvider(meters metric.MeterProvider) Option {
	return func(s *settings) { s.meters = meters }
}

// Telemetry makes spans and metrics. It serves any number of clients.
type Telemetry struct {
	tracer  trace.Tracer
	metrics *metrics
}

// New makes a Telemetry of the global providers, or of those in the options. Its error is that of
// a meter that refuses an instrument.
func New(options ...Option) (*Telemetry, error) {
	s := settings{otel.GetTracerProvider(), otel.GetMeterProvider()}
	for _, option := range options {
		option(&s)
	}
	version := fractal.SDKVersion
	meter := s.meters.Meter(scope, metric.WithInstrumentationVersion(version))
	instruments, err := newMetrics(meter)
	if err != nil {
		return nil, err
	}
	tracer := s.tracers.Tracer(scope, trace.WithInstrumentationVersion(version))
	return &Telemetry{tracer, instruments}, nil
}
