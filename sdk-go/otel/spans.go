package fractalotel

import (
	"context"
	"errors"
	"slices"
	"strconv"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/propagation"
	"go.opentelemetry.io/otel/trace"

	fractal "fractal-lba.example/sdk-go"
)

// Client is a fractal.Client whose calls are spans. Every other method is the client's own.
type Client struct {
	*fractal.Client
	tracer trace.Tracer
}

// Client puts spans around the calls of a client.
func (t *Telemetry) Client(client *fractal.Client) *Client { return &Client{client, t.tracer} }

// Submit is Submit of the client, in a span `fractal_lba.submit`.
func (c *Client) Submit(
	ctx context.Context, record fractal.Submittable, options ...fractal.CallOption,
) (*fractal.Submitted, error) {
	ctx, span := c.tracer.Start(ctx, "fractal_lba.submit")
	defer span.End()
	submitted, err := c.Client.Submit(ctx, record, options...)
	fail(span, err)
	return submitted, err
}

// SubmitMany is SubmitMany of the client, in one span `fractal_lba.submit_many`.
func (c *Client) SubmitMany(
	ctx context.Context, records []fractal.Record, options ...fractal.CallOption,
) []fractal.Item {
	ctx, span := c.tracer.Start(ctx, "fractal_lba.submit_many")
	defer span.End()
	return c.Client.SubmitMany(ctx, records, options...)
}

// Get is Get of the client, in a span `fractal_lba.get`.
func (c *Client) Get(
	ctx context.Context, pcsID string, options ...fractal.CallOption,
) (*fractal.Outcome, error) {
	ctx, span := c.tracer.Start(ctx, "fractal_lba.get")
	defer span.End()
	outcome, err := c.Client.Get(ctx, pcsID, options...)
	fail(span, err)
	return outcome, err
}

// fail marks a span with the code of an error; its text may come from a server.
func fail(span trace.Span, err error) {
	if err == nil {
		return
	}
	code := "_OTHER"
	var fault *fractal.Error
	if errors.As(err, &fault) {
		code = fault.Code
	}
	span.SetAttributes(attribute.String("error.type", code))
	span.SetStatus(codes.Error, code)
}

type transport struct {
	inner  fractal.Transport
	tracer trace.Tracer
}

// Transport puts a CLIENT span around each attempt, and its traceparent into the request.
func (t *Telemetry) Transport(inner fractal.Transport) fractal.Transport {
	return transport{inner, t.tracer}
}

func (t transport) Send(
	ctx context.Context, request fractal.Request, bounds fractal.SendBounds,
) (fractal.RawResponse, error) {
	attributes := append(
		serverOf(request.URL),
		attribute.String("http.request.method", request.Method),
	)
	if resends := resendsOf(request); resends > 0 {
		attributes = append(attributes, attribute.Int("http.request.resend_count", resends))
	}
	ctx, span := t.tracer.Start(ctx, request.Method,
		trace.WithSpanKind(trace.SpanKindClient), trace.WithAttributes(attributes...))
	defer span.End()
	raw, err := t.inner.Send(ctx, withTraceparent(ctx, request), bounds)
	fail(span, err)
	if err == nil {
		span.SetAttributes(attribute.Int("http.response.status_code", raw.Status))
		if raw.Status >= 400 {
			span.SetAttributes(attribute.String("error.type", strconv.Itoa(raw.Status)))
			span.SetStatus(codes.Error, "")
		}
	}
	return raw, err
}

func resendsOf(request fractal.Request) int {
	for _, header := range request.Headers {
		if header[0] == "X-Retry-Attempt" {
			count, _ := strconv.Atoi(header[1])
			return count
		}
	}
	return 0
}

// withTraceparent adds that one header to a copy; tracestate and baggage are the caller's matter
// and stay here.
func withTraceparent(ctx context.Context, request fractal.Request) fractal.Request {
	carrier := propagation.MapCarrier{}
	propagation.TraceContext{}.Inject(ctx, carrier)
	if value := carrier["traceparent"]; value != "" {
		request.Headers = append(slices.Clone(request.Headers), [2]string{"traceparent", value})
	}
	return request
}
