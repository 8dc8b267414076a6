package authz_test

import (
	"net/netip"
	"reflect"
	"strings"
	"testing"

	"github.com/caddy-oci/oci-registry/authz"
	"github.com/caddy-oci/oci-registry/oci"
)

func TestSupposed(t *testing.T) {
	t.Parallel()
	v1, err := oci.ParseReference("v1")
	if err != nil {
		t.Fatal(err)
	}
	list := []authz.Access{{Action: authz.List}}
	for _, tc := range []struct {
		supposed authz.Supposed
		want     authz.Question
	}{
		{authz.Supposed{User: "anonymous", Action: "list"}, authz.Question{Want: list}},
		{authz.Supposed{User: "anonymous", Provider: "ldap", Action: "list"}, authz.Question{Want: list}},
		{authz.Supposed{User: "user:anonymous", Action: "list"}, authz.Question{Who: authz.Identity{ID: "anonymous"}, Want: list}},
		{
			authz.Supposed{User: "erin", Groups: []string{"dev"}, Provider: "ldap", Action: "push", Repository: "team/app", Reference: "v1", Client: "10.0.0.1"},
			authz.Question{
				Who:    authz.Identity{ID: "erin", Groups: []string{"dev"}, Provider: "ldap"},
				Client: netip.MustParseAddr("10.0.0.1"),
				Want:   []authz.Access{{Action: authz.Push, Repository: name(t, "team/app"), Reference: v1}},
			},
		},
		{
			authz.Supposed{User: "user@oidc:erin", Provider: "ldap", Action: "list"},
			authz.Question{Who: authz.Identity{ID: "erin", Provider: "oidc"}, Want: list},
		},
	} {
		if got, err := tc.supposed.Question(); err != nil || !reflect.DeepEqual(got, tc.want) {
			t.Errorf("%+v is %+v, %v; want %+v", tc.supposed, got, err, tc.want)
		}
	}
}

func TestSupposedRefuses(t *testing.T) {
	t.Parallel()
	for want, s := range map[string]authz.Supposed{
		"who? Want the name of a user": {Action: "pull"},
		"is in no group":               {User: "anonymous", Groups: []string{"dev"}, Action: "pull"},
		`action "read": want pull`:     {User: "erin", Action: "read"},
		"invalid repository name":      {User: "erin", Action: "pull", Repository: "A"},
		`tag "-"`:                      {User: "erin", Action: "pull", Repository: "a", Reference: "-"},
		"address of the client":        {User: "erin", Action: "pull", Client: "here"},
	} {
		if q, err := s.Question(); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%+v is %+v, %v; want %s", s, q, err, want)
		}
	}
}
