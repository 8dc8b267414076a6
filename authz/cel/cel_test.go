package cel_test

import (
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/caddy-oci/oci-registry/authz"
	"github.com/caddy-oci/oci-registry/authz/cel"
	"github.com/caddy-oci/oci-registry/oci"
)

const digest = "sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"

func asked(t *testing.T, reference string) authz.Case {
	t.Helper()
	n, err := oci.ParseName("team/app")
	if err != nil {
		t.Fatal(err)
	}
	r, err := oci.ParseReference(reference)
	if err != nil {
		t.Fatal(err)
	}
	return authz.Case{
		Question: authz.Question{
			Client: netip.MustParseAddr("::ffff:10.1.2.3"),
			Who: authz.Identity{
				ID: "alice", Groups: []string{"dev", "ops"},
				Claims: map[string]any{"sub": "repo:x", "ref": map[string]any{"protected": true}, "roles": []any{"a", "b"}, "n": 3.0},
			},
		},
		Access: authz.Access{Action: authz.Push, Repository: n, Reference: r},
		Admin:  true,
	}
}

func request() *cel.Request {
	return &cel.Request{
		Method: "PUT", UserAgent: "docker/27", ForwardedFor: []string{"192.0.2.1", "10.0.0.5"}, TLSVersion: "1.3",
		Time: time.Date(2026, 1, 31, 12, 0, 0, 0, time.UTC),
	}
}

func condition(t *testing.T, expression string, o cel.Options) *cel.Condition {
	t.Helper()
	c, err := cel.New(expression, o)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func TestVariables(t *testing.T) {
	t.Parallel()
	ctx := cel.WithRequest(t.Context(), request())
	byTag, byDigest := asked(t, "v1"), asked(t, digest)
	anonymous := asked(t, "v1")
	anonymous.Question.Who, anonymous.Admin, anonymous.Access = authz.Identity{}, false, authz.Access{Action: authz.List}
	for _, c := range []struct {
		asked      authz.Case
		expression string
	}{
		{byTag, `req.time == timestamp("2026-01-31T12:00:00Z")`},
		{byTag, `req.time.getDayOfWeek() == 6 && req.time.getHours() == 12`},
		{byTag, `req.method == "PUT"`},
		{byTag, `req.userAgent.startsWith("docker/")`},
		{byTag, `req.action == "push"`},
		{byTag, `req.repository == "team/app"`},
		{byTag, `req.reference == "v1" && req.referenceType == "tag" && req.tag == "v1" && req.digest == ""`},
		{byDigest, `req.reference == req.digest && req.referenceType == "digest" && req.tag == ""`},
		{byTag, `req.user.username == "alice"`},
		{byTag, `"dev" in req.user.groups && req.user.groups.size() == 2`},
		{byTag, `!req.auth.anonymous && req.auth.admin`},
		{byTag, `req.client.ip == "10.1.2.3"`},
		{byTag, `cidr("10.0.0.0/8").containsIP(req.client.ip)`},
		{byTag, `req.client.forwardedFor[0].startsWith("192.0.2.")`},
		{byTag, `req.tls.enabled && req.tls.version == "1.3"`},
		{byTag, `req.claims.sub == "repo:x" && req.claims["ref"].protected && "b" in req.claims.roles && req.claims.n == 3`},
		{byTag, `has(req.claims.sub) && !has(req.claims.other)`},
		{byTag, `req.claims.?other.orValue("none") == "none"`},
		{byTag, `req.claims.ref.protected`}, // of no type before there's a claim
		{anonymous, `req.user.username == "" && req.auth.anonymous && !req.auth.admin && req.user.groups == []`},
		{anonymous, `req.repository == "" && req.reference == "" && req.referenceType == ""`},
		{anonymous, `!has(req.claims.sub)`},
		{byTag, `sets.contains(req.user.groups, ["ops"])`},
	} {
		met, err := condition(t, c.expression, cel.Options{}).Met(ctx, c.asked)
		if err != nil || !met {
			t.Errorf("%s: %t, %v", c.expression, met, err)
		}
		if met, err := condition(t, "!("+c.expression+")", cel.Options{}).Met(ctx, c.asked); err != nil || met {
			t.Errorf("not %s: %t, %v", c.expression, met, err)
		}
	}
}

func TestMistakesAreFoundAtLoad(t *testing.T) {
	t.Parallel()
	for expression, problem := range map[string]string{
		`req.tag == 1`:                   "no matching overload",
		`req.user.name == "alice"`:       "there are req.action, req.auth.admin,",
		`request.tag == "v1"`:            "undeclared reference to 'request'",
		`req.tag`:                        "of type string",
		`req.user.groups`:                "of type list(string)",
		`req.tag ==`:                     "Syntax error",
		`req.tag.matches("[")`:           "error parsing regexp",
		``:                               "Syntax error",
		strings.Repeat("true && ", 9000): "size",
	} {
		c, err := cel.New(expression, cel.Options{})
		if err == nil {
			t.Errorf("%s is %v", expression, c)
			continue
		}
		if !strings.Contains(err.Error(), problem) || strings.Contains(err.Error(), "\n") {
			t.Errorf("%.40s: %.300v\nwant one line about %s", expression, err, problem)
		}
	}
}

// TestErrorsAreNoAnswers: what can't be found out is an error.
func TestErrorsAreNoAnswers(t *testing.T) {
	t.Parallel()
	withoutAddress := asked(t, "v1")
	withoutAddress.Question.Client = netip.Addr{}
	huge := asked(t, "v1")
	for range 12_000 {
		huge.Question.Who.Groups = append(huge.Question.Who.Groups, "g")
	}
	for _, c := range []struct {
		asked      authz.Case
		expression string
		problem    string
	}{
		{asked(t, "v1"), `req.claims.other == "x"`, "no such key"},
		{asked(t, "v1"), `req.claims.sub`, "of type string and not bool"},
		{asked(t, "v1"), `req.client.forwardedFor[7] == "x"`, "index"},
		{withoutAddress, `req.client.ip != "10.0.0.1"`, "the client's address isn't known"},
		{huge, `req.user.groups.exists(a, req.user.groups.exists(b, a == b + "x"))`, "cost limit exceeded"},
	} {
		met, err := condition(t, c.expression, cel.Options{}).Met(cel.WithRequest(t.Context(), request()), c.asked)
		if err == nil || met || !strings.Contains(err.Error(), c.problem) {
			t.Errorf("%s: %t, %v; want an error about %s", c.expression, met, err, c.problem)
		}
	}
	for _, v := range []string{`req.method != "x"`, `req.userAgent != "x"`, `!req.tls.enabled`, `req.tls.version != "x"`, `req.client.forwardedFor == []`} {
		met, err := condition(t, v, cel.Options{}).Met(t.Context(), asked(t, "v1"))
		if err == nil || met || !strings.Contains(err.Error(), "nothing is known of the request") {
			t.Errorf("%s without a request: %t, %v", v, met, err)
		}
	}
}

func TestTimeIsNow(t *testing.T) {
	t.Parallel()
	before := time.Now().Add(-time.Hour).Format(time.RFC3339)
	c := condition(t, `req.time > timestamp("`+before+`")`, cel.Options{})
	if met, err := c.Met(t.Context(), asked(t, "v1")); err != nil || !met {
		t.Errorf("%t, %v", met, err)
	}
}

func TestActionsOfAnotherRegistry(t *testing.T) {
	t.Parallel()
	c := condition(t, `req.action == "create"`, cel.Options{Actions: map[authz.Action]string{authz.Push: "create"}})
	if met, err := c.Met(t.Context(), asked(t, "v1")); err != nil || !met {
		t.Errorf("%t, %v", met, err)
	}
	q := asked(t, "v1")
	q.Access.Action = authz.Delete // which has no other name
	c = condition(t, `req.action == "delete"`, cel.Options{Actions: map[authz.Action]string{authz.Push: "create"}})
	if met, err := c.Met(t.Context(), q); err != nil || !met {
		t.Errorf("%t, %v", met, err)
	}
}

func TestInAPolicy(t *testing.T) {
	t.Parallel()
	c := condition(t, `req.tag.startsWith("v")`, cel.Options{Message: "only releases"})
	if c.String() != `req.tag.startsWith("v")` || c.Message() != "only releases" {
		t.Errorf("%s, %s", c, c.Message())
	}
	p, err := authz.New(authz.Config{Rules: []authz.Rule{{
		Allow: []authz.Action{authz.Push}, Repositories: "team/**", To: []string{"alice"}, Conditions: []authz.Condition{c},
	}}})
	if err != nil {
		t.Fatal(err)
	}
	for tag, granted := range map[string]bool{"v1": true, "latest": false} {
		q := asked(t, tag).Question
		q.Want = []authz.Access{asked(t, tag).Access}
		_, err := p.Authorize(t.Context(), q)
		if (err == nil) != granted || err != nil && !strings.HasSuffix(err.Error(), ": only releases") {
			t.Errorf("%s: %v", tag, err)
		}
	}
}

func BenchmarkMet(b *testing.B) {
	c, err := cel.New(`req.time.getHours() < 24 && cidr("10.0.0.0/8").containsIP(req.client.ip) && "dev" in req.user.groups`, cel.Options{})
	if err != nil {
		b.Fatal(err)
	}
	q := authz.Case{Question: authz.Question{
		Client: netip.MustParseAddr("10.1.2.3"), Who: authz.Identity{ID: "alice", Groups: []string{"ops", "dev"}},
	}}
	b.ReportAllocs()
	for b.Loop() {
		if met, err := c.Met(b.Context(), q); err != nil || !met {
			b.Fatal(met, err)
		}
	}
}
