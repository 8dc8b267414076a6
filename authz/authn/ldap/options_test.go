package ldap_test

import (
	"crypto/tls"
	"strings"
	"testing"
	"time"

	ldapsource "github.com/caddy-oci/oci-registry/authz/authn/ldap"
)

func TestOptionsThatMakeNoSense(t *testing.T) {
	t.Parallel()
	type o = ldapsource.Options
	for what, c := range map[string]struct {
		change func(*o)
		hint   string
	}{
		"no URL":                    {func(o *o) { o.URLs = nil }, "ldaps://"},
		"a URL of something else":   {func(o *o) { o.URLs = []string{"https://one"} }, "want ldaps"},
		"a URL without a host":      {func(o *o) { o.URLs = []string{"ldap://one", "ldaps://:636"} }, "ldaps://HOST"},
		"a URL with a base":         {func(o *o) { o.URLs = []string{"ldap://one/dc=example"} }, "ldaps://HOST"},
		"a URL with a password":     {func(o *o) { o.URLs = []string{"ldap://x:secret@one"} }, "ldaps://HOST"},
		"a URL with a query":        {func(o *o) { o.URLs = []string{"ldap://one??sub"} }, "ldaps://HOST"},
		"plain, and ldaps":          {func(o *o) { o.URLs = []string{"ldap://one", "ldaps://two"} }, "ldap://"},
		"plain, and certificates":   {func(o *o) { o.TLS = new(tls.Config) }, "TLS"},
		"no base":                   {func(o *o) { o.Base = "" }, "base"},
		"a base that's no DN":       {func(o *o) { o.Base = "example.com" }, `base "example.com"`},
		"a DN without a password":   {func(o *o) { o.Password = nil }, "no password"},
		"a password without a DN":   {func(o *o) { o.BindDN = "" }, "anonymous"},
		"a DN that's none":          {func(o *o) { o.BindDN = "EXAMPLE\\registry" }, "bind DN"},
		"a user attribute":          {func(o *o) { o.UserAttribute = "uid=*)(x" }, "user attribute"},
		"half a filter":             {func(o *o) { o.Filter = "(a=b" }, "filter"},
		"a filter and a half":       {func(o *o) { o.Filter = "(a=b)(c=d)" }, "filter"},
		"a filter that ends early":  {func(o *o) { o.Filter = "(a=b))(|(uid=*" }, "filter"},
		"not a filter":              {func(o *o) { o.Filter = "a=b" }, "filter"},
		"few connections":           {func(o *o) { o.Connections = -1 }, "negative"},
		"no time":                   {func(o *o) { o.Limit = -time.Second }, "negative"},
		"no time for a step":        {func(o *o) { o.Step = -1 }, "negative"},
		"no time to be idle":        {func(o *o) { o.Idle = -1 }, "negative"},
		"depth of no groups":        {func(o *o) { o.Groups.Depth = 1 }, "memberOf"},
		"a base of no groups":       {func(o *o) { o.Groups.Base = teams }, "memberOf"},
		"names of no groups":        {func(o *o) { o.Groups.Name = "cn" }, "memberOf"},
		"groups too deep":           {func(o *o) { o.Groups = ldapsource.Groups{Attribute: "memberOf", Depth: 17} }, "0 to 16"},
		"groups too shallow":        {func(o *o) { o.Groups = ldapsource.Groups{Attribute: "memberOf", Depth: -1} }, "0 to 16"},
		"few groups":                {func(o *o) { o.Groups = ldapsource.Groups{Attribute: "memberOf", Limit: -1} }, "negative"},
		"many groups":               {func(o *o) { o.Groups = ldapsource.Groups{Attribute: "memberOf", Limit: 5001} }, "5000"},
		"deep groups of names":      {func(o *o) { o.Groups = ldapsource.Groups{Filter: "(memberUid={user})", Depth: 1} }, "{dn}"},
		"groups of everybody":       {func(o *o) { o.Groups.Filter = "(objectClass=group)" }, "{dn}"},
		"a filter with part of one": {func(o *o) { o.Groups.Filter = "(member={dn},dc=org)" }, "whole value"},
		"a filter with a part":      {func(o *o) { o.Groups.Filter = "(&(member={dn})(x=*{user}*))" }, "whole value"},
		"a filter by any attribute": {func(o *o) { o.Groups.Filter = "({user}={dn})" }, "whole value"},
		"half a groups' filter":     {func(o *o) { o.Groups.Filter = "(member={dn})(x" }, "filter of groups"},
		"a groups' base":            {func(o *o) { o.Groups = ldapsource.Groups{Attribute: "memberOf", Base: "x"} }, "base of groups"},
		"a groups' attribute":       {func(o *o) { o.Groups.Attribute = "member of" }, "attribute of groups"},
		"a groups' name":            {func(o *o) { o.Groups = ldapsource.Groups{Attribute: "memberOf", Name: "c,n"} }, "name of groups"},
	} {
		opts := ldapsource.Options{
			URLs: []string{"ldap://one"}, Plain: true, Base: base, BindDN: service,
			Password: func() (string, error) { return "secret", nil },
		}
		c.change(&opts)
		s, err := ldapsource.New(opts)
		if err == nil || s != nil || !strings.Contains(err.Error(), c.hint) || strings.Contains(err.Error(), "secret") {
			t.Errorf("%s: %v, want one with %q", what, err, c.hint)
		}
	}
}

func TestOptionsThatMakeSense(t *testing.T) {
	t.Parallel()
	for _, opts := range []ldapsource.Options{
		{URLs: []string{"ldaps://one", "ldap://two", "ldaps://[::1]:6360/"}, Base: base},
		{
			URLs: []string{"ldap://one"}, Base: `ou=Smith\, Jones,` + base, UserAttribute: "0.9.2342.19200300.100.1.1",
			Filter: "(&(objectClass=person)(!(userAccountControl:1.2.840.113556.1.4.803:=2)))",
			Groups: ldapsource.Groups{Filter: "(member:1.2.840.113556.1.4.1941:={dn})", Name: "cn", Depth: 16, Limit: 5000},
		},
	} {
		s, err := ldapsource.New(opts)
		if err != nil {
			t.Errorf("%+v: %v", opts, err)
			continue
		}
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	}
}
