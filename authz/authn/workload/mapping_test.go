package workload_test

import (
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/caddy-oci/oci-registry/authz/authn"
	"github.com/caddy-oci/oci-registry/authz/authn/issuer"
	"github.com/caddy-oci/oci-registry/authz/authn/issuer/issuertest"
	"github.com/caddy-oci/oci-registry/authz/authn/workload"
)

func TestWhatIsRefusedAtLoad(t *testing.T) {
	t.Parallel()
	variable := func(name, text string) workload.Mapping {
		return workload.Mapping{Variables: []workload.Variable{{Name: name, Expression: text}}}
	}
	valid := func(text string) workload.Mapping {
		return workload.Mapping{Validations: []workload.Validation{{Expression: text}}}
	}
	for name, c := range map[string]struct {
		mapping workload.Mapping
		want    string
	}{
		"syntax":                   {workload.Mapping{User: "claims."}, "Syntax error"},
		"an unknown name":          {workload.Mapping{User: "claim.sub"}, "undeclared"},
		"an unknown variable":      {workload.Mapping{User: "vars.x"}, "undeclared"},
		"a user that's a number":   {workload.Mapping{User: "7"}, "want a string"},
		"a user that's a list":     {workload.Mapping{User: "['a']"}, "want a string"},
		"types that don't fit":     {workload.Mapping{User: "'a' + 7"}, "no matching overload"},
		"groups that are a string": {workload.Mapping{Groups: "'a'"}, "want a list of strings"},
		"groups that are numbers":  {workload.Mapping{Groups: "[7]"}, "want a list of strings"},
		"groups that are a map":    {workload.Mapping{Groups: "{'a': 'b'}"}, "want a list of strings"},
		"a validation of text":     {valid("'true'"), "want a bool"},
		"an empty validation":      {valid(""), "validation"},
		"a variable without name":  {variable("", "7"), "variable"},
		"a name with a dot":        {variable("a.b", "7"), "letters"},
		"a variable of itself":     {variable("a", "vars.a"), "undeclared"},
		"two of one name": {workload.Mapping{Variables: []workload.Variable{
			{Name: "a", Expression: "7"}, {Name: "a", Expression: "8"},
		}}, "two of that name"},
		"a variable's type": {workload.Mapping{
			Variables: []workload.Variable{{Name: "a", Expression: "7"}}, User: "vars.a",
		}, "want a string"},
		"a variable that comes later": {workload.Mapping{Variables: []workload.Variable{
			{Name: "a", Expression: "vars.b"}, {Name: "b", Expression: "7"},
		}}, "undeclared"},
	} {
		_, err := workload.New("ci", workload.Trust{
			Issuer: issuer.Options{URL: "https://issuer.example"}, Audiences: []string{"a"}, Mapping: c.mapping,
		})
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestTrustsThatAreRefusedAtLoad(t *testing.T) {
	t.Parallel()
	url := issuer.Options{URL: "https://issuer.example"}
	for name, trusts := range map[string][]workload.Trust{
		"none":              nil,
		"no issuer":         {{Audiences: []string{"a"}}},
		"no audience":       {{Issuer: url}},
		"an empty audience": {{Issuer: url, Audiences: []string{""}}},
		"the second":        {{Issuer: url, Audiences: []string{"a"}}, {Issuer: url}},
	} {
		if _, err := workload.New("ci", trusts...); err == nil {
			t.Errorf("%s is accepted", name)
		}
	}
}

func TestMappings(t *testing.T) {
	t.Parallel()
	srv := issuertest.New(t)
	for _, c := range []struct {
		mapping workload.Mapping
		user    string // empty: refused
		groups  []string
	}{
		{workload.Mapping{Variables: []workload.Variable{
			{Name: "parts", Expression: "claims.path.split('/')"},
			{Name: "first", Expression: "vars.parts[0]"},
			{Name: "rest", Expression: "vars.parts.filter(p, p != vars.first)"},
		}, User: "vars.first", Groups: "vars.rest"}, "a", []string{"b", "c"}},
		{workload.Mapping{User: "string(claims.id)"}, "9007199254740993", nil},
		{workload.Mapping{User: "has(claims.none) ? claims.none : 'default'"}, "default", nil},
		{workload.Mapping{User: "claims.path.matches('^a/') ? 'yes' : 'no'"}, "yes", nil},
		{workload.Mapping{User: "'x'", Groups: "[]"}, "x", nil},
		{workload.Mapping{User: "'x'", Groups: "sets.contains(claims.list, ['p']) ? claims.list : []"}, "x", []string{"p", "q"}},
		{workload.Mapping{Validations: []workload.Validation{{Expression: "claims.id > 7"}, {Expression: "claims.id > 8"}}, User: "'x'"}, "x", nil},
		{workload.Mapping{Validations: []workload.Validation{{Expression: "true"}, {Expression: "claims.id < 8"}}, User: "'x'"}, "", nil},
		{workload.Mapping{Validations: []workload.Validation{{Expression: "claims.none"}}, User: "'x'"}, "", nil},
		{workload.Mapping{Validations: []workload.Validation{{Expression: "claims.path"}}, User: "'x'"}, "", nil},
		{workload.Mapping{Variables: []workload.Variable{{Name: "bad", Expression: "claims.none"}}, User: "'x'"}, "", nil},
		{workload.Mapping{User: "claims.list.map(a, claims.list.map(b, a + b))[0][0]"}, "pp", nil},
	} {
		config := trust(srv)
		config.Mapping = c.mapping
		who, _, err := newTokens(t, config).Identify(bearer(srv.Sign(t, srv.Claims(audience, map[string]any{
			"path": "a/b/c", "id": int64(9007199254740993), "list": []string{"p", "q"},
		}))))
		if who.ID != c.user || !slices.Equal(who.Groups, c.groups) {
			t.Errorf("%+v: %+v, %v", c.mapping, who, err)
		}
		if (c.user == "") != errors.Is(err, authn.ErrRefused) {
			t.Errorf("%+v: %v", c.mapping, err)
		}
	}
}

func TestWorkIsLimited(t *testing.T) {
	t.Parallel()
	srv := issuertest.New(t)
	config := trust(srv)
	config.Mapping.User = "claims.l.all(a, claims.l.all(b, claims.l.all(c, a + b + c != ''))) ? 'x' : 'y'"
	list := make([]string, 1000)
	for i := range list {
		list[i] = "z"
	}
	_, _, err := newTokens(t, config).Identify(bearer(srv.Sign(t, srv.Claims(audience, map[string]any{"l": list}))))
	if !errors.Is(err, authn.ErrRefused) || !strings.Contains(err.Error(), "cost limit") {
		t.Error(err)
	}
}
