//go:build real

package tool

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/go-ldap/ldap/v3"
)

// What every directory of Slapd has: its top, and who may change everything below it.
const (
	SlapdBase     = "dc=example,dc=com"
	SlapdAdmin    = "cn=admin," + SlapdBase
	SlapdPassword = "not-a-secret"
)

// Slapd is OpenLDAP's server, on this machine only. Its directory survives Kill and
// Restart. Users and groups are what the test makes.
type Slapd struct {
	*Server

	Plain  string // its URL for LDAP and StartTLS
	Secure string // its URL for LDAPS
	CA     string // the file with the certificate that vouches for it, as 127.0.0.1

	t       *testing.T
	program *Tool
	args    []string
}

// NewSlapd starts one with the top of a directory. Anybody may sign in; to search takes
// an account that is in the directory. Its overlay keeps memberOf.
func NewSlapd(t *testing.T) *Slapd {
	t.Helper()
	s := &Slapd{t: t, program: Find(t, "slapd")}
	dir := s.program.Dir
	authority := NewAuthority(t)
	s.CA = authority.File
	authority.Certify(filepath.Join(dir, "server.pem"), filepath.Join(dir, "server.key"), "slapd", net.IPv4(127, 0, 0, 1))
	if err := os.Mkdir(filepath.Join(dir, "db"), 0o700); err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(dir, "slapd.conf")
	if err := os.WriteFile(file, fmt.Appendf(nil, slapdConf, dir), 0o600); err != nil {
		t.Fatal(err)
	}
	var err error
	for range 5 { // somebody may take a port before it does
		s.Plain, s.Secure = "ldap://"+freeAddress(t), "ldaps://"+freeAddress(t)
		s.args = []string{"-f", file, "-h", s.Plain + " " + s.Secure, "-d", "none"} // with -d it stays where it is
		if err = s.start(); err == nil {
			break
		}
	}
	if err != nil {
		t.Fatal(err)
	}
	s.Add(SlapdBase, map[string][]string{"objectClass": {"dcObject", "organization"}, "dc": {"example"}, "o": {"Example"}})
	return s
}

const slapdConf = `
include /etc/ldap/schema/core.schema
include /etc/ldap/schema/cosine.schema
include /etc/ldap/schema/inetorgperson.schema
include /etc/ldap/schema/nis.schema
modulepath /usr/lib/ldap
moduleload back_mdb
moduleload memberof
pidfile %[1]s/slapd.pid
TLSCertificateFile %[1]s/server.pem
TLSCertificateKeyFile %[1]s/server.key
database mdb
suffix ` + SlapdBase + `
rootdn ` + SlapdAdmin + `
rootpw ` + SlapdPassword + `
directory %[1]s/db
maxsize 67108864
dbnosync
index objectClass,uid,member eq
access to attrs=userPassword by * auth
access to * by users read by * none
overlay memberof
`

// Restart starts the server that has ended, and waits until it answers.
func (s *Slapd) Restart() {
	s.t.Helper()
	if err := s.start(); err != nil {
		s.t.Fatal(err)
	}
}

// start waits until it's the server that answers: a port on which nobody listens yet may
// be connected to itself.
func (s *Slapd) start() error {
	s.t.Helper()
	s.Server = s.program.Start(s.args...)
	ctx, cancel := context.WithTimeout(s.t.Context(), time.Minute)
	defer cancel()
	return s.Until(ctx, func(context.Context) error {
		c, err := ldap.DialURL(s.Plain, ldap.DialWithDialer(&net.Dialer{Timeout: time.Second}))
		if err != nil {
			return err
		}
		c.SetTimeout(time.Second)
		return errors.Join(c.Bind(SlapdAdmin, SlapdPassword), c.Close())
	})
}

// admin does something as who may do everything.
func (s *Slapd) admin(do func(*ldap.Conn) error) {
	s.t.Helper()
	c, err := ldap.DialURL(s.Plain)
	if err != nil {
		s.t.Fatal(err)
	}
	defer c.Close()
	if err := c.Bind(SlapdAdmin, SlapdPassword); err != nil {
		s.t.Fatal(err)
	}
	if err := do(c); err != nil {
		s.t.Fatal(err)
	}
}

// Add adds an entry.
func (s *Slapd) Add(dn string, attributes map[string][]string) {
	s.t.Helper()
	request := ldap.NewAddRequest(dn, nil)
	for name, values := range attributes {
		request.Attribute(name, values)
	}
	s.admin(func(c *ldap.Conn) error { return c.Add(request) })
}

// Replace gives an attribute of an entry other values; none removes it.
func (s *Slapd) Replace(dn, attribute string, values ...string) {
	s.t.Helper()
	request := ldap.NewModifyRequest(dn, nil)
	request.Replace(attribute, values)
	s.admin(func(c *ldap.Conn) error { return c.Modify(request) })
}

// Remove removes an entry.
func (s *Slapd) Remove(dn string) {
	s.t.Helper()
	s.admin(func(c *ldap.Conn) error { return c.Del(ldap.NewDelRequest(dn, nil)) })
}
