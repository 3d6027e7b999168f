package fractal

// This file owns the one form in which an endpoint's URL is written and compared.

import (
	"net/netip"
	"net/url"
	"strconv"
	"strings"
)

// Endpoint names one place to send to: https, or http on loopback; no user-info, query or
// fragment. Region is needed only where AllowedRegions is set.
type Endpoint struct {
	URL    string
	Region string
}

// maxRegionCharacters is the longest region of an endpoint.
const maxRegionCharacters = 64

func (e Endpoint) normal() (Endpoint, error) {
	written, err := normalURL(e.URL)
	if err != nil {
		return Endpoint{}, err
	}
	if len(e.Region) > maxRegionCharacters || !hasOnly(e.Region, isRegionCharacter) {
		return Endpoint{}, newError("config_invalid",
			"endpoint region: expected 1 to %d of a-z 0-9 -, got %q", maxRegionCharacters, e.Region)
	}
	return Endpoint{URL: written, Region: e.Region}, nil
}

func isRegionCharacter(c byte) bool {
	return 'a' <= c && c <= 'z' || '0' <= c && c <= '9' || c == '-'
}

func hasOnly(text string, allowed func(byte) bool) bool {
	for index := range len(text) {
		if !allowed(text[index]) {
			return false
		}
	}
	return true
}

// normalURL checks an endpoint's URL and writes it in one form, without a slash at the end.
func normalURL(text string) (string, error) {
	printable := hasOnly(text, func(c byte) bool { return '!' <= c && c <= '~' && c != '\\' })
	scheme, rest, found := strings.Cut(text, "://")
	scheme = strings.ToLower(scheme)
	switch {
	case !printable || text == "":
		return "", newError("config_invalid", "endpoint: expected a URL of printable ASCII")
	case strings.ContainsAny(text, "?#"):
		return "", newError("config_invalid",
			"endpoint: expected no query and no fragment in the URL")
	case !found || scheme != "https" && scheme != "http":
		return "", newError("config_invalid", "endpoint: expected https://host")
	}
	authority, path, _ := strings.Cut(rest, "/")
	if strings.Contains(authority, "@") {
		return "", newError("config_invalid", "endpoint: expected no user-info in the URL")
	}
	host, port, err := splitHost(authority)
	if err != nil {
		return "", err
	}
	if scheme == "http" && !isLoopback(host) {
		return "", newError("config_invalid",
			"endpoint: expected https (http is for loopback only), got %q", text)
	}
	if scheme == "https" && port == ":443" || scheme == "http" && port == ":80" {
		port = ""
	}
	written := scheme + "://" + host + port
	if path = strings.TrimRight(path, "/"); path != "" {
		written += "/" + path
	}
	if _, err := url.Parse(written); err != nil {
		return "", newError("config_invalid", "endpoint: expected a valid URL")
	}
	return written, nil
}

// splitHost gives the host in lower case, and the port with its colon or "".
func splitHost(authority string) (host, port string, err error) {
	host = strings.ToLower(authority)
	valid := true
	if strings.HasPrefix(host, "[") {
		end := strings.IndexByte(host, ']') + 1
		address, bad := netip.ParseAddr(strings.Trim(host[:end], "[]"))
		valid = bad == nil && address.Is6()
		host, port = host[:end], host[end:]
	} else if end := strings.IndexByte(host, ':'); end >= 0 {
		host, port = host[:end], host[end:]
	}
	if !strings.HasPrefix(host, "[") && strings.ContainsAny(host, "[]") {
		valid = false
	}
	if port == ":" {
		port = ""
	}
	if port != "" {
		number, bad := strconv.ParseUint(port[1:], 10, 16)
		valid = valid && bad == nil && port[0] == ':'
		port = ":" + strconv.FormatUint(number, 10)
	}
	if !valid || host == "" {
		return "", "", newError("config_invalid",
			"endpoint: expected a URL with a valid host and port")
	}
	return host, port, nil
}

// isLoopback says whether a host never leaves the machine.
func isLoopback(host string) bool {
	if host == "localhost" || host == "[::1]" {
		return true
	}
	parts := strings.Split(host, ".")
	if len(parts) != 4 || parts[0] != "127" {
		return false
	}
	for _, part := range parts {
		if len(part) < 1 || len(part) > 3 || !isDigits(part) {
			return false
		}
	}
	return true
}
