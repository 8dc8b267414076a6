//go:build !noldap

package ociregistry

import (
	"strings"
	"testing"
)

// What can't be meant is refused when the configuration is loaded, and no server is
// asked for that.
func TestLDAPProvider(t *testing.T) {
	w := newWeb(t)
	t.Setenv("LDAP_PASSWORD", "secret")
	for _, tc := range []struct{ block, want string }{
		{"ldaps://directory.example.com {\nbase ou=people,dc=example\n}", ""},
		{"ldaps://a.example.com ldaps://b.example.com {\nbase ou=people,dc=example\nbind cn=registry,dc=example {env.LDAP_PASSWORD}\nuser_attribute uid\nfilter (objectClass=person)\nsingle_level\ngroups {\nattribute memberOf\nname cn\n}\ntimeout 5s\n}", ""},
		{"ldaps://directory.example.com", "no base"},
		{"{\nbase dc=example\n}", "no URL of a server"},
		{"http://directory.example.com {\nbase dc=example\n}", `scheme "http"`},
		{"ldaps://a.example.com {\nbase dc=example\nbind cn=x {env.NO_SUCH_VARIABLE_HERE}\n}", "the password stands for nothing"},
		{"ldaps://a.example.com {\nbase dc=example\ngroups {\nfilter (member=alice)\n}\n}", "finds the same groups for all users"},
		{"ldaps://a.example.com {\nbase dc=example\nca /no/such/file\n}", "/no/such/file"},
		{"ldaps://10.0.0.1 {\nbase dc=example\nserver_name directory.example.com\n}", ""},
		{"ldap://10.0.0.1 {\nbase dc=example\nplain\nserver_name directory.example.com\n}", "both TLS and none"},
	} {
		err := validate(t, w.config(t, "", withAuth("provider oci_ldap "+tc.block)))
		if tc.want == "" && err != nil || tc.want != "" && (err == nil || !strings.Contains(err.Error(), tc.want)) {
			t.Errorf("%s\nerr = %v\nwant %s", tc.block, err, tc.want)
		}
		if err != nil && strings.Contains(err.Error(), "secret") {
			t.Errorf("the error has the password: %v", err)
		}
	}
}

// A password that stands in the configuration is shown to whoever may see that, so there's a
// warning; and it's in nothing else.
func TestSecretsInTheConfiguration(t *testing.T) {
	w := newWeb(t)
	t.Setenv("LDAP_PASSWORD", "hunter2")
	for password, warned := range map[string]bool{"hunter2": true, "{env.LDAP_PASSWORD}": false} {
		log := w.validated(t, withAuth("provider oci_ldap ldaps://directory.example.com {\nbase dc=example\nbind cn=registry "+password+"\n}"))
		if strings.Contains(log, "the password of bind is written into the configuration") != warned || strings.Contains(log, "hunter2") {
			t.Errorf("%s: the log has %s", password, log)
		}
	}
}
