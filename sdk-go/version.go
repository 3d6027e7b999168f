package fractal

// This file owns the version of the module, which User-Agent carries. A Go module has no metadata
// that a program can rely on: a build inside this repository knows no tag. So the version is this
// constant; version_test.go holds it equal to that of the other SDKs, and a release is the tag
// `sdk-go/v` with this text.

//go:generate go run ./internal/apitext

const version = "0.4.0"

// SDKVersion is the version of this module. All SDKs of one release have the same.
const SDKVersion = version

// maxAppCharacters is the longest `app` that is appended to User-Agent.
const maxAppCharacters = 24

// UserAgent gives the header of that name: the SDK with its version, and the caller's app unless
// that is "". Its error is config_invalid.
func UserAgent(app string) (string, error) {
	product := "fractal-lba-go-sdk/" + version
	if app == "" {
		return product, nil
	}
	if len(app) > maxAppCharacters {
		return "", newError(
			"config_invalid",
			"app: expected at most %d characters",
			maxAppCharacters,
		)
	}
	if err := checkHeaderValue("app", app); err != nil {
		return "", err
	}
	return product + " " + app, nil
}
