package option

import (
	"crypto/x509"
	"fmt"
	"os"

	"github.com/caddyserver/caddy/v2"
)

// RootsWith returns the system's certificates and those in a file; nil, which is
// the system's, without a file.
func RootsWith(file string) (*x509.CertPool, error) {
	if file == "" {
		return nil, nil
	}
	pem, err := os.ReadFile(file) //nolint:gosec // the operator says which file
	if err != nil {
		return nil, fmt.Errorf("ca: %w", err)
	}
	roots, err := x509.SystemCertPool()
	if err != nil {
		roots = x509.NewCertPool() // there's no other way to trust anybody then
	}
	if !roots.AppendCertsFromPEM(pem) {
		return nil, fmt.Errorf("ca: %s has no certificate: want PEM, with lines like -----BEGIN CERTIFICATE-----", file)
	}
	return roots, nil
}

// Resolve replaces the placeholders in an option's value. One that stands for
// nothing is an error: a file that is missing, say. What it returns goes into no
// exported field, and so into nothing that shows a configuration.
func Resolve(option, value string) (string, error) {
	s, err := caddy.NewReplacer().ReplaceOrErr(value, true, true)
	if err != nil {
		return "", fmt.Errorf("%s %q: %w", option, value, err)
	}
	return s, nil
}
