package fractal

// This file owns what `GET /health` says of an endpoint.

// EndpointHealth is what one endpoint said about itself: OK if it takes writes now.
type EndpointHealth struct {
	URL    string
	Region string
	OK     bool
	// Status is 0 if no answer came.
	Status int
	// Code is a code of the closed list, "" if there was a 2xx answer.
	Code string
}

// readHealth reads the answer to a health request; no answer is an error.
func readHealth(endpoint Endpoint, answer *RawResponse, fault *Error, nowMs int64) EndpointHealth {
	health := EndpointHealth{URL: endpoint.URL, Region: endpoint.Region}
	if answer != nil {
		health.Status, health.OK = answer.Status, answer.Status == 200
		if !health.OK {
			if _, err := ReadResponse(*answer, nowMs, DefaultResponseLimits()); err != nil {
				fault = asError(err)
			}
		}
	}
	if fault != nil {
		health.Code = fault.Code
	}
	return health
}
