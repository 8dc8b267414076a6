// Package origin is about where clients reach a registry: a scheme, a host and maybe a
// port.
package origin

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"net/url"
	"strings"
)

// Check returns what is wrong with a URL at which clients are to reach a registry. It
// has a scheme, http or https, and a host with or without a port, and nothing else but
// slashes at its end. The error doesn't have the URL in it.
func Check(s string) error {
	u, err := url.Parse(s)
	if err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" {
		return errors.New("want https://host or http://host")
	}
	if u.User != nil || u.RawQuery != "" || u.Fragment != "" || strings.Trim(u.Path, "/") != "" {
		return fmt.Errorf("want nothing but %s://%s; clients look for a registry at the root of its host", u.Scheme, u.Host)
	}
	return nil
}

// IsLoopback reports whether only this machine can reach a host, with a port or
// without one.
func IsLoopback(host string) bool {
	if h, _, err := net.SplitHostPort(host); err == nil {
		host = h
	}
	ip, err := netip.ParseAddr(strings.Trim(host, "[]"))
	return strings.EqualFold(host, "localhost") || err == nil && ip.Unmap().IsLoopback()
}
