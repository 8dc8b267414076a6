package ldap_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"math/big"
	"net"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/go-ldap/ldap/v3"

	ldapsource "github.com/caddy-oci/oci-registry/authz/authn/ldap"
)

// certificate makes one for the host "one", and the pool of what vouches for it.
func certificate(t *testing.T) (*tls.Config, *x509.CertPool) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), DNSNames: []string{"one"}, IsCA: true, BasicConstraintsValid: true,
		NotBefore: time.Date(1999, 1, 1, 0, 0, 0, 0, time.UTC), NotAfter: time.Date(2199, 1, 1, 0, 0, 0, 0, time.UTC),
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	parsed, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	pool := x509.NewCertPool()
	pool.AddCert(parsed)
	return &tls.Config{Certificates: []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: key}}}, pool
}

func TestTLS(t *testing.T) {
	t.Parallel()
	config, pool := certificate(t)
	for what, c := range map[string]struct {
		url    string
		client *tls.Config
		well   bool
	}{
		"ldaps":               {"ldaps://one", &tls.Config{RootCAs: pool}, true},
		"StartTLS":            {"ldap://one", &tls.Config{RootCAs: pool}, true},
		"ldaps, other name":   {"ldaps://two", &tls.Config{RootCAs: pool}, false},
		"ldaps, named":        {"ldaps://two", &tls.Config{RootCAs: pool, ServerName: "one"}, true},
		"StartTLS, named":     {"ldap://two", &tls.Config{RootCAs: pool, ServerName: "one"}, true},
		"StartTLS, other":     {"ldap://two", &tls.Config{RootCAs: pool}, false},
		"ldaps, unknown":      {"ldaps://one", nil, false},
		"StartTLS, unknown":   {"ldap://one", nil, false},
		"StartTLS, no pool":   {"ldap://one", &tls.Config{RootCAs: x509.NewCertPool()}, false},
		"ldaps, another port": {"ldaps://one:1636", &tls.Config{RootCAs: pool}, false}, // where the fake has no TLS
	} {
		t.Run(what, func(t *testing.T) {
			t.Parallel()
			d := newDirectory(t)
			d.tls = config
			s := open(t, d, func(o *ldapsource.Options) {
				o.URLs, o.Plain, o.TLS = []string{c.url}, false, c.client
			})
			_, err := login(t, s, "alice", "password of alice")
			if c.well && err != nil {
				t.Error(err)
			}
			if !c.well {
				mustFail(t, "login", err)
			}
			mustBeSecure(t, d)
		})
	}
}

// mustBeSecure fails the test if a password went over the network in plain.
func mustBeSecure(t *testing.T, d *directory) {
	t.Helper()
	for _, r := range d.requests() {
		if r.op != "starttls" && !r.secure {
			t.Errorf("%s without TLS: %+v", r.op, r)
		}
	}
}

// TestStartTLSIsAMust: a server that won't is no server, whatever it says.
func TestStartTLSIsAMust(t *testing.T) {
	t.Parallel()
	config, pool := certificate(t)
	for _, result := range []int64{
		ldap.LDAPResultProtocolError, ldap.LDAPResultUnwillingToPerform, ldap.LDAPResultInsufficientAccessRights,
		ldap.LDAPResultInvalidCredentials, ldap.LDAPResultNoSuchObject, ldap.LDAPResultSizeLimitExceeded, ldap.LDAPResultUnavailable,
	} {
		d := newDirectory(t)
		d.tls = config
		anonymous := open(t, d, func(o *ldapsource.Options) {
			o.Plain, o.TLS, o.BindDN, o.Password = false, &tls.Config{RootCAs: pool}, "", nil
		})
		if _, err := anonymous.Lookup(t.Context(), "alice"); err != nil {
			t.Fatal(err)
		}
		d.set(func() { d.result[""] = result }) // from now on, so for binds alone
		_, err := login(t, anonymous, "alice", "password of alice")
		mustFail(t, fmt.Sprint("StartTLS is answered with ", result), err)
		_, err = login(t, anonymous, "nobody", "password of alice")
		mustFail(t, fmt.Sprint("StartTLS is answered with ", result), err)
		mustBeSecure(t, d)
	}
}

// TestTheServiceAccountIsNoUser: what a directory says to the account that searches is
// never taken for what it says of a user.
func TestTheServiceAccountIsNoUser(t *testing.T) {
	t.Parallel()
	for _, result := range []int64{
		ldap.LDAPResultInvalidCredentials, ldap.LDAPResultNoSuchObject, ldap.LDAPResultUnwillingToPerform,
		ldap.LDAPResultSizeLimitExceeded, ldap.LDAPResultInvalidDNSyntax, ldap.LDAPResultConfidentialityRequired,
	} {
		d := newDirectory(t)
		d.member(userDN("alice"), "cn=g,"+teams)
		s := open(t, d, func(o *ldapsource.Options) { o.Groups = ldapsource.Groups{Attribute: "memberOf", Depth: 1} })
		d.fault = func(r request) fault { // which takes a new connection, for the groups
			if r.op == "search" && r.dn == "cn=g,"+teams {
				d.result[service] = result
				return hangUp
			}
			return none
		}
		_, err := login(t, s, "alice", "password of alice")
		mustFail(t, fmt.Sprint("the service account's bind is answered with ", result), err)
	}
}

func TestThePasswordOfTheServiceAccountChanges(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		d := newDirectory(t)
		password := "service's secret"
		s := open(t, d, func(o *ldapsource.Options) {
			o.Password = func() (string, error) {
				if password == "" {
					return "", errors.New("the file isn't there")
				}
				return password, nil
			}
		})
		if _, err := s.Lookup(t.Context(), "alice"); err != nil {
			t.Fatal(err)
		}
		d.set(func() { d.password[service] = "new secret" })
		if _, err := s.Lookup(t.Context(), "alice"); err != nil {
			t.Fatal(err) // the connection is bound
		}
		d.hangUpAll()
		synctest.Wait()
		d.requests()
		for range 3 { // once for the three of them, lest the account is locked
			_, err := s.Lookup(t.Context(), "alice")
			mustFail(t, "the old password", err)
			if err != nil && strings.Contains(err.Error(), "secret") {
				t.Errorf("the password is in %v", err)
			}
		}
		if ops := d.ops(); ops != "bind" {
			t.Errorf("a wrong password is tried by %s", ops)
		}
		time.Sleep(2 * time.Second)
		_, err := s.Lookup(t.Context(), "alice")
		mustFail(t, "the old password, still", err)
		if ops := d.ops(); ops != "bind" {
			t.Errorf("after a while a wrong password is tried by %q", ops)
		}
		password = "new secret"
		if _, err := s.Lookup(t.Context(), "alice"); err != nil {
			t.Errorf("the new password: %v", err)
		}
		d.hangUpAll()
		synctest.Wait()
		password = ""
		_, err = s.Lookup(t.Context(), "alice")
		mustFail(t, "a password that can't be had", err)
	})
}

func TestAnEmptyPasswordOfTheServiceAccount(t *testing.T) {
	t.Parallel()
	d := newDirectory(t)
	s := open(t, d, func(o *ldapsource.Options) { o.Password = func() (string, error) { return "", nil } })
	_, err := s.Lookup(t.Context(), "alice")
	mustFail(t, "an empty password", err)
	if err != nil && !strings.Contains(err.Error(), service+" is empty") {
		t.Errorf("%v doesn't say what's wrong", err)
	}
	if ops := d.ops(); ops != "" {
		t.Errorf("an empty password is sent: %s", ops)
	}
}

// TestAHangingServer: nobody waits longer than the limits say, wherever it hangs.
func TestAHangingServer(t *testing.T) {
	t.Parallel()
	config, pool := certificate(t)
	for where, c := range map[string]struct {
		url   string
		hangs func(request) bool
	}{
		"search":       {"ldap://one", func(r request) bool { return r.op == "search" }},
		"bind":         {"ldap://one", func(r request) bool { return r.dn == userDN("alice") && r.op == "bind" }},
		"service bind": {"ldaps://one", func(r request) bool { return r.dn == service }},
		"groups":       {"ldap://one", func(r request) bool { return r.op == "search" && r.dn == teams }},
		"StartTLS":     {"ldap://one", func(r request) bool { return r.op == "starttls" }},
		"TLS":          {"ldaps://mute", nil},
		"dial":         {"ldap://deaf", nil},
	} {
		t.Run(where, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				d := newDirectory(t)
				d.tls = config
				if c.hangs != nil {
					d.fault = func(r request) fault {
						if c.hangs(r) {
							return hang
						}
						return none
					}
				}
				s := open(t, d, func(o *ldapsource.Options) {
					o.URLs, o.Plain, o.TLS, o.Dial = []string{c.url}, false, &tls.Config{RootCAs: pool}, d.dialSome(t)
					o.Groups = ldapsource.Groups{Filter: "(member={dn})", Base: teams}
				})
				mustEndInTime(t, s)
			})
		})
	}
}

// mustEndInTime fails if a login at a server that hangs takes longer than the limits say,
// or than the caller's context.
func mustEndInTime(t *testing.T, s *ldapsource.Source) {
	t.Helper()
	begin := time.Now()
	_, err := login(t, s, "alice", "password of alice")
	mustFail(t, "login", err)
	// A step's limit, twice if there's sense in a second attempt.
	if took := time.Since(begin); took != 3*time.Second && took != 6*time.Second {
		t.Errorf("it took %v: %v", took, err)
	}

	ctx, cancel := context.WithTimeout(t.Context(), time.Second)
	defer cancel()
	begin = time.Now()
	_, err = s.Authenticate(ctx, "alice", "password of alice")
	mustFail(t, "login by somebody without time", err)
	if took := time.Since(begin); took != time.Second || !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("somebody with a second waited for %v: %v", took, err)
	}

	ctx, cancel = context.WithCancel(t.Context())
	time.AfterFunc(time.Millisecond, cancel)
	begin = time.Now()
	_, err = s.Authenticate(ctx, "alice", "password of alice")
	mustFail(t, "login by somebody who's gone", err)
	if took := time.Since(begin); took != time.Millisecond || !errors.Is(err, context.Canceled) {
		t.Errorf("somebody who's gone waited for %v: %v", took, err)
	}
}

// dialSome is dial, and has two more servers: deaf, which can't be connected to, and
// mute, which says nothing.
func (d *directory) dialSome(t *testing.T) func(context.Context, string, string) (net.Conn, error) {
	return func(ctx context.Context, network, address string) (net.Conn, error) {
		switch {
		case strings.HasPrefix(address, "deaf:"):
			<-ctx.Done()
			return nil, ctx.Err()
		case strings.HasPrefix(address, "mute:"):
			client, server := net.Pipe()
			t.Cleanup(func() { _ = server.Close() })
			d.running.Go(func() {
				for {
					if _, err := server.Read(make([]byte, 100)); err != nil {
						return
					}
				}
			})
			return client, nil
		}
		return d.dial(ctx, network, address)
	}
}

// TestTheLimitOfAll: many steps, each in time, take too long together.
func TestTheLimitOfAll(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		d := newDirectory(t)
		chain(d, 16)
		s := open(t, d, func(o *ldapsource.Options) {
			o.Step, o.Limit = 2*time.Second, 6500*time.Millisecond
			o.Groups = ldapsource.Groups{Attribute: "memberOf", Depth: 16}
			o.Dial = func(ctx context.Context, network, address string) (net.Conn, error) {
				c, err := d.dial(ctx, network, address)
				return &late{Conn: c, closed: make(chan struct{})}, err
			}
		})
		begin := time.Now()
		_, err := login(t, s, "alice", "password of alice")
		mustFail(t, "login", err)
		if took := time.Since(begin); took != 6500*time.Millisecond {
			t.Errorf("it took %v: %v", took, err)
		}
	})
}

// late is a connection on which everything takes a second.
type late struct {
	net.Conn

	once   sync.Once
	closed chan struct{}
}

func (c *late) Write(p []byte) (int, error) {
	select {
	case <-time.After(time.Second):
		return c.Conn.Write(p)
	case <-c.closed:
		return 0, net.ErrClosed
	}
}

func (c *late) Close() error {
	c.once.Do(func() { close(c.closed) })
	return c.Conn.Close()
}

// TestFaults: whatever a server does, a user isn't refused, and nothing breaks for good.
func TestFaults(t *testing.T) {
	t.Parallel()
	for what, f := range map[string]fault{
		"hang": hang, "hang up": hangUp, "cut off": cutOff, "garbage": garbage, "stranger": stranger, "flood": flood, "nested": nested,
	} {
		for _, op := range []string{"bind", "search"} {
			t.Run(what+" "+op, func(t *testing.T) {
				t.Parallel()
				synctest.Test(t, func(t *testing.T) {
					d := newDirectory(t)
					s := open(t, d)
					for _, used := range []bool{false, true} { // with a new connection, and with one that was used
						d.set(func() {
							d.fault = func(r request) fault {
								if r.op == op {
									return f
								}
								return none
							}
						})
						_, err := login(t, s, "alice", "password of alice")
						mustFail(t, fmt.Sprint("login, connections in use before: ", used), err)
						_, err = login(t, s, "nobody", "password of alice")
						mustFail(t, fmt.Sprint("login of nobody, connections in use before: ", used), err)
						d.set(func() { d.fault = nil })
						if _, err := login(t, s, "alice", "password of alice"); err != nil {
							t.Errorf("afterwards: %v", err)
						}
					}
				})
			})
		}
	}
}

// TestOneRetry: a connection that breaks is replaced, once.
func TestOneRetry(t *testing.T) {
	t.Parallel()
	for what, f := range map[string]fault{"hang up": hangUp, "cut off": cutOff, "hang": hang} {
		for _, op := range []string{"bind", "search"} {
			t.Run(what+" "+op, func(t *testing.T) {
				t.Parallel()
				synctest.Test(t, func(t *testing.T) {
					d := newDirectory(t)
					s := open(t, d, func(o *ldapsource.Options) { o.BindDN, o.Password = "", nil })
					for _, times := range []int{1, 1, 2} {
						left := times
						d.set(func() {
							d.fault = func(r request) fault {
								if r.op != op || left == 0 {
									return none
								}
								left--
								return f
							}
						})
						_, err := login(t, s, "alice", "password of alice")
						if times == 1 && err != nil {
							t.Error(err)
						}
						if times == 2 {
							mustFail(t, "a connection that breaks, and the next one, too", err)
						}
						_, err = login(t, s, "alice", "wrong")
						mustRefuse(t, "a wrong password", err)
					}
				})
			})
		}
	}
}
