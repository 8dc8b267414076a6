package token_test

import (
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/caddy-oci/oci-registry/authz/token"
	"github.com/caddy-oci/oci-registry/oci"
)

func TestParseScopes(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]token.Scope{
		"repository:team/app:pull,push":       {Type: "repository", Name: "team/app", Actions: []string{"pull", "push"}},
		"repository:host:5000/app:pull":       {Type: "repository", Name: "host:5000/app", Actions: []string{"pull"}},
		"repository(plugin):app:pull":         {Type: "repository", Class: "plugin", Name: "app", Actions: []string{"pull"}},
		"registry:catalog:*":                  {Type: "registry", Name: "catalog", Actions: []string{"*"}},
		"repository:app:":                     {Type: "repository", Name: "app"},
		"repository:app:pull,,pull":           {Type: "repository", Name: "app", Actions: []string{"pull"}},
		"  repository:app:pull ":              {Type: "repository", Name: "app", Actions: []string{"pull"}},
		"repository:samalba/my-app:pull,pull": {Type: "repository", Name: "samalba/my-app", Actions: []string{"pull"}},
	} {
		got, err := token.ParseScopes([]string{text})
		if err != nil || len(got) != 1 || got[0].String() != want.String() || got[0].Class != want.Class || !slices.Equal(got[0].Actions, want.Actions) {
			t.Errorf("%q is %+v, %v; want %+v", text, got, err, want)
		}
	}
	for _, text := range []string{"x", "a:b", ":a:b", "a::b", "a(:b:c", "a():b:c", "a)b:b:c", "A:b:c", "a(B):c:d", "a:b:" + strings.Repeat("c,d,", 1) + "e,f,g,h,i,j,k,l,m,n,o,p,q,r,s"} {
		if got, err := token.ParseScopes([]string{text}); !errors.Is(err, oci.Unsupported) {
			t.Errorf("%q is %+v, %v", text, got, err)
		}
	}
	if got, err := token.ParseScopes([]string{"", " ", "a:b:c d:e:f", "g:h:i"}); err != nil || len(got) != 3 {
		t.Errorf("%v, %v", got, err)
	}
}

// FuzzParseScopes: what was parsed is written as it's parsed again.
func FuzzParseScopes(f *testing.F) {
	for _, seed := range []string{"repository:team/app:pull,push", "registry:catalog:*", "a(b):c:d e:f:", "x", "repository:h:1/a:,"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		scopes, err := token.ParseScopes([]string{text})
		if err != nil {
			return
		}
		texts := make([]string, len(scopes))
		for i, s := range scopes {
			if s.Type == "" || s.Name == "" || strings.ContainsAny(s.Type+s.Class, ":() ") || slices.Contains(s.Actions, "") {
				t.Fatalf("%q has %+v", text, s)
			}
			texts[i] = s.String()
		}
		again, err := token.ParseScopes([]string{strings.Join(texts, " ")})
		if err != nil || len(again) != len(scopes) {
			t.Fatalf("%q is %v, %v; was %v", texts, again, err, scopes)
		}
		for i := range scopes {
			if again[i].String() != texts[i] {
				t.Fatalf("%q is %q", texts[i], again[i])
			}
		}
	})
}
