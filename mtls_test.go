//go:build !noauth

package ociregistry

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"testing"
	"time"
)

// certify returns a certificate for somebody, by an authority of its own whose
// certificate is written to file.
func certify(t *testing.T, subject pkix.Name, file string) tls.Certificate {
	t.Helper()
	now := time.Now()
	authority := &x509.Certificate{
		SerialNumber: big.NewInt(1), NotBefore: now.Add(-time.Hour), NotAfter: now.Add(time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}
	client := &x509.Certificate{
		SerialNumber: big.NewInt(2), Subject: subject, NotBefore: now.Add(-time.Hour), NotAfter: now.Add(time.Hour),
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}, KeyUsage: x509.KeyUsageDigitalSignature,
	}
	authorityKey, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	clientKey, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	raw, err := x509.CreateCertificate(rand.Reader, authority, authority, authorityKey.Public(), authorityKey)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(file, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: raw}), 0o600); err != nil {
		t.Fatal(err)
	}
	if raw, err = x509.CreateCertificate(rand.Reader, client, authority, clientKey.Public(), authorityKey); err != nil {
		t.Fatal(err)
	}
	return tls.Certificate{Certificate: [][]byte{raw}, PrivateKey: clientKey}
}

// Who shows a certificate of the right authority is whom it says, and who shows none is
// anonymous.
func TestClientCertificates(t *testing.T) {
	w := newWeb(t)
	ca := filepath.Join(t.TempDir(), "ca.pem")
	cert := certify(t, pkix.Name{CommonName: "alice", OrganizationalUnit: []string{"release"}}, ca)
	other := certify(t, pkix.Name{CommonName: "alice"}, filepath.Join(t.TempDir(), "other.pem"))
	_, port, err := net.SplitHostPort(w.addr)
	if err != nil {
		t.Fatal(err)
	}
	site := withAuth("provider oci_mtls {\n\t\t\t\tuser common_name\n\t\t\t\tgroups organizational_unit\n\t\t\t}",
		"policy {\n\t\t\tallow pull ** to *\n\t\t\tallow pull push a/** to group:release\n\t\t\tallow pull push b/** to bob\n\t\t}")
	config, err := adapt(t, fmt.Sprintf("{\n\tadmin off\n\tpersist_config off\n\tskip_install_trust\n\tstorage file_system %s\n}\n\nhttps://localhost:%s {\n"+
		"\ttls internal {\n\t\tclient_auth {\n\t\t\tmode verify_if_given\n\t\t\ttrust_pool file %s\n\t\t}\n\t}\n%s}\n", t.TempDir(), port, ca, site))
	if err != nil {
		t.Fatal(err)
	}
	load(t, quiet(t, []byte(config)))
	dialer := &tls.Dialer{Config: &tls.Config{InsecureSkipVerify: true, ServerName: "localhost"}}
	for { // until the site has a certificate
		conn, err := dialer.DialContext(t.Context(), "tcp", w.addr)
		if err == nil {
			_ = conn.Close()
			break
		}
	}
	push := func(repository string, certs ...tls.Certificate) (int, error) {
		client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true, TLSClientConfig: &tls.Config{
			InsecureSkipVerify: true, Certificates: certs,
		}}}
		r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, "https://localhost:"+port+"/v2/"+repository+"/blobs/uploads/", nil)
		if err != nil {
			t.Fatal(err)
		}
		resp, err := client.Do(r)
		if err != nil {
			return 0, err
		}
		return resp.StatusCode, resp.Body.Close()
	}
	for repository, want := range map[string]int{"a/x": http.StatusAccepted, "b/x": http.StatusForbidden} {
		if status, err := push(repository, cert); err != nil || status != want {
			t.Errorf("alice may push to %s: %d %v", repository, status, err)
		}
		if status, err := push(repository); err != nil || status != http.StatusForbidden {
			t.Errorf("who shows nothing may push to %s: %d %v", repository, status, err)
		}
		if status, err := push(repository, other); err == nil {
			t.Errorf("who was certified by somebody else gets %d", status)
		}
	}
}
