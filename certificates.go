package ociregistry

import (
	"crypto/x509"
	"fmt"
	"os"
)

// rootsWith returns the system's certificates and those in a file; nil, which is
// the system's, without a file.
func rootsWith(file string) (*x509.CertPool, error) {
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
