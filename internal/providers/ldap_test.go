//go:build !noldap

package providers

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"math/big"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// Two configurations share a directory if they ask the same in the same way: what is
// in the file of certificates counts, and not where it is alone.
func TestLDAPSharing(t *testing.T) {
	file := filepath.Join(t.TempDir(), "ca.pem")
	key := func(p LDAP) string {
		t.Helper()
		p.URLs, p.Base = []string{"ldaps://a.example.com"}, "dc=example"
		opts, err := p.options()
		if err != nil {
			t.Fatal(err)
		}
		key, err := p.key(opts)
		if err != nil {
			t.Fatal(err)
		}
		return key
	}
	replace := func() { writeCertificate(t, file) }
	replace()
	before := key(LDAP{CA: file})
	if again := key(LDAP{CA: file}); again != before {
		t.Errorf("the same is %q and %q", before, again)
	}
	replace()
	if after := key(LDAP{CA: file}); after == before {
		t.Error("other certificates in the same file are no other way to ask")
	}
	t.Setenv("LDAP_NAME", "one")
	one := key(LDAP{ServerName: "{env.LDAP_NAME}"})
	t.Setenv("LDAP_NAME", "two")
	if two := key(LDAP{ServerName: "{env.LDAP_NAME}"}); one == two {
		t.Error("another name of the server is no other way to ask")
	}
	opts, err := (&LDAP{ServerName: "directory.example.com"}).options()
	if err != nil || opts.TLS.ServerName != "directory.example.com" {
		t.Errorf("the server's name: %v %+v", err, opts.TLS)
	}
}

// The password isn't in what sources are told apart by.
func TestLDAPKeyHasNoSecret(t *testing.T) {
	t.Parallel()
	p := LDAP{URLs: []string{"ldaps://a.example.com"}, Base: "dc=example", BindDN: "cn=registry", BindPassword: "hunter2"}
	opts, err := p.options()
	if err != nil {
		t.Fatal(err)
	}
	if key, err := p.key(opts); err != nil || strings.Contains(key, "hunter2") {
		t.Errorf("the key of the source has it: %s, %v", key, err)
	}
}

// writeCertificate makes a certificate, and a file with it.
func writeCertificate(t *testing.T, file string) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(time.Hour)}
	raw, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(file, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: raw}), 0o600); err != nil {
		t.Fatal(err)
	}
}
