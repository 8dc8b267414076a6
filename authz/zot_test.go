package authz_test

import (
	"context"
	"errors"
	"slices"
	"testing"

	"github.com/caddy-oci/oci-registry/authz"
	"github.com/caddy-oci/oci-registry/oci"
)

// zot is an accessControl of zot, and how a config adapter writes it down here: each
// of its entries is some rules with one pattern. What differs is said by a case.
type zot struct {
	repositories map[string]zotEntry
	admin        zotPolicy
	groups       map[string][]string
}

type zotEntry struct {
	policies        []zotPolicy
	defaultPolicy   string // actions, each by its first letter
	anonymousPolicy string
}

type zotPolicy struct {
	users, groups []string
	actions       string
	conditions    []authz.Condition
}

// zotActions are zot's actions by their first letters, and what they're here.
var zotActions = map[rune]authz.Action{'r': authz.Pull, 'c': authz.Push, 'u': authz.Overwrite, 'd': authz.Delete}

func translateActions(letters string) []authz.Action {
	var all []authz.Action
	for _, l := range letters {
		all = append(all, zotActions[l])
	}
	return all
}

func (p zotPolicy) to() []string {
	var to []string
	for _, u := range p.users {
		to = append(to, "user:"+u)
	}
	for _, g := range p.groups {
		to = append(to, "group:"+g)
	}
	return to
}

func (z zot) translate() authz.Config {
	c := authz.Config{Groups: z.groups}
	for pattern, e := range z.repositories {
		for _, p := range e.policies {
			c.Rules = append(c.Rules, authz.Rule{
				Allow: translateActions(p.actions), Repositories: pattern, To: p.to(), Conditions: p.conditions,
			})
		}
		if e.defaultPolicy != "" {
			c.Rules = append(c.Rules, authz.Rule{
				Allow: translateActions(e.defaultPolicy), Repositories: pattern, To: []string{"authenticated"},
			})
		}
		if e.anonymousPolicy != "" {
			c.Rules = append(c.Rules, authz.Rule{
				Allow: translateActions(e.anonymousPolicy), Repositories: pattern, To: []string{"anonymous"},
			})
		}
	}
	if z.admin.actions != "" {
		c.Admins = []authz.Admin{{
			Allow: translateActions(z.admin.actions), To: z.admin.to(), Conditions: z.admin.conditions,
		}}
	}
	return c
}

// only is a zot with one entry.
func only(pattern string, e zotEntry) zot { return zot{repositories: map[string]zotEntry{pattern: e}} }

func policies(p ...zotPolicy) zotEntry { return zotEntry{policies: p} }

func users(actions string, names ...string) zotPolicy {
	return zotPolicy{users: names, actions: actions}
}

// groups is a policy that lets groups read.
func groups(names ...string) zotPolicy { return zotPolicy{groups: names, actions: "r"} }

func (p zotPolicy) when(conditions ...authz.Condition) zotPolicy {
	p.conditions = conditions
	return p
}

// condition is an authz.Condition as functions.
type condition struct {
	met     func(authz.Case) (bool, error)
	message string
}

func (c condition) Met(_ context.Context, asked authz.Case) (bool, error) { return c.met(asked) }
func (c condition) Message() string                                       { return c.message }

func holds(met bool, message string) authz.Condition {
	return condition{func(authz.Case) (bool, error) { return met, nil }, message}
}

var (
	yes    = holds(true, "")
	no     = holds(false, "")
	broken = condition{func(authz.Case) (bool, error) { return true, errors.New("broken") }, "a message"}
)

func tagIs(tag string) authz.Condition {
	return condition{func(c authz.Case) (bool, error) { return c.Access.Reference.String() == tag, nil }, "only " + tag}
}

// zotAsk is what zot is asked, and its answer.
type zotAsk struct {
	user   string // empty is anonymous
	groups []string
	action rune // r, c, u, d; u is a push to a tag that names something else
	repo   string
	refs   []string // of a manifest; none for blobs and lists
	want   zotAnswer
	reason string
}

type zotAnswer string

const (
	allowed      zotAnswer = "allowed"
	denied       zotAnswer = "403"
	unauthorized zotAnswer = "401"
)

func (ask zotAsk) question(t *testing.T) authz.Question {
	q := authz.Question{Who: authz.Identity{ID: ask.user, Groups: ask.groups}}
	action := zotActions[ask.action]
	if ask.action == 'u' {
		action = authz.Push
	}
	if len(ask.refs) == 0 {
		q.Want = []authz.Access{{Action: action, Repository: name(t, ask.repo)}}
	}
	for _, ref := range ask.refs {
		q.Want = append(q.Want, authz.Access{Action: action, Repository: name(t, ask.repo), Reference: reference(t, ref)})
	}
	return q
}

func reference(t *testing.T, s string) oci.Reference {
	t.Helper()
	r, err := oci.ParseReference(s)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func answerOf(t *testing.T, a authz.Answer, err error, overwrites bool) (answer zotAnswer, reason string) {
	t.Helper()
	refusal, _ := errors.AsType[*oci.Error](err)
	switch {
	case err == nil && (a.Overwrite || !overwrites):
		return allowed, ""
	case err == nil:
		return denied, "" // by the store, which knows that the tag is there
	case refusal == nil:
		t.Fatalf("%v isn't a refusal", err)
	}
	if refusal.Detail != nil {
		reason = jsonField(t, refusal.Detail, "reason")
	}
	if refusal.Code == oci.Unauthorized {
		return unauthorized, reason
	}
	return denied, reason
}

func TestZot(t *testing.T) {
	t.Parallel()
	seen := map[string]bool{}
	for _, table := range [][]zotCase{zotPatterns, zotWho, zotAdmins, zotConditions, zotPushes} {
		for _, c := range table {
			if seen[c.name] {
				t.Errorf("%q is there twice", c.name)
			}
			seen[c.name] = true
			t.Run(c.name, func(t *testing.T) {
				t.Parallel()
				p, err := authz.New(c.config.translate())
				if err != nil {
					t.Fatal(err)
				}
				c.check(t, p)
			})
		}
	}
	if len(seen) < 60 {
		t.Errorf("%d cases, want 60", len(seen))
	}
}

type zotCase struct {
	name   string
	config zot
	ask    zotAsk
}

func (c zotCase) check(t *testing.T, p *authz.Policy) {
	t.Helper()
	q := c.ask.question(t)
	a, err := p.Authorize(t.Context(), q)
	got, reason := answerOf(t, a, err, c.ask.action == 'u')
	if got != c.ask.want || reason != c.ask.reason {
		t.Errorf("%s because %q, want %s because %q (%v)", got, reason, c.ask.want, c.ask.reason, err)
	}
	if e := p.Explain(t.Context(), q); e.Granted != (err == nil) || e.Overwrite != a.Overwrite {
		t.Errorf("explained as\n%s", e)
	}
}

// TestZotEqualLengths: zot takes one of two patterns of one length by chance.
func TestZotEqualLengths(t *testing.T) {
	t.Parallel()
	z := zot{repositories: map[string]zotEntry{"team/*": {defaultPolicy: "r"}, "*/app0": {defaultPolicy: "c"}}}
	if _, err := authz.New(z.translate()); err == nil {
		t.Error("two patterns of one length that match one name are accepted")
	}
}

func TestZotLists(t *testing.T) {
	t.Parallel()
	z := zot{
		repositories: map[string]zotEntry{
			"**":       {defaultPolicy: "r", anonymousPolicy: "r"},
			"team/**":  policies(users("r", "alice"), users("c", "bob")),
			"night/**": policies(users("r", "alice").when(no)),
		},
		admin: users("rd", "root"),
	}
	p, err := authz.New(z.translate())
	if err != nil {
		t.Fatal(err)
	}
	all := names(t, "lib/x", "night/y", "team/a", "team/b")
	for user, want := range map[string][]oci.Name{
		"":      names(t, "lib/x"),
		"carol": names(t, "lib/x"),
		"bob":   names(t, "lib/x"),                     // create alone isn't to read
		"alice": names(t, "lib/x", "team/a", "team/b"), // zot would show night/y, which can't be read
		"root":  all,
	} {
		q := authz.Question{Who: authz.Identity{ID: user}, Want: []authz.Access{{Action: authz.List}}}
		got := slices.Collect(p.Filter(t.Context(), q, slices.Values(all)))
		if !slices.Equal(got, want) {
			t.Errorf("%q is shown %v, want %v", user, got, want)
		}
	}
}

// TestZotAdminsLists: zot shows an admin all repositories whatever the admin may do.
func TestZotAdminsLists(t *testing.T) {
	t.Parallel()
	p, err := authz.New(zot{admin: users("d", "root")}.translate())
	if err != nil {
		t.Fatal(err)
	}
	q := authz.Question{Who: authz.Identity{ID: "root"}, Want: []authz.Access{{Action: authz.List}}}
	if got := slices.Collect(p.Filter(t.Context(), q, slices.Values(names(t, "a")))); len(got) > 0 {
		t.Errorf("an admin who may only delete is shown %v", got)
	}
}

// TestZotBase: zot doesn't ask its policy about /v2/.
func TestZotBase(t *testing.T) {
	t.Parallel()
	private, public := only("a", zotEntry{defaultPolicy: "r"}), only("a", zotEntry{defaultPolicy: "r", anonymousPolicy: "r"})
	for _, c := range []struct {
		config zot
		user   string
		want   zotAnswer
	}{
		{zot{admin: users("r", "root")}, "", unauthorized},
		{private, "", unauthorized},
		{private, "alice", allowed},
		{public, "", allowed},
		{public, "alice", allowed},
		{only("a", policies(users("r", "alice"))), "bob", allowed}, // who may do nothing can still log in
	} {
		p, err := authz.New(c.config.translate())
		if err != nil {
			t.Fatal(err)
		}
		a, err := p.Authorize(t.Context(), authz.Question{
			Who: authz.Identity{ID: c.user}, Want: []authz.Access{{Action: authz.List}},
		})
		if got, _ := answerOf(t, a, err, false); got != c.want {
			t.Errorf("%q: %s, want %s", c.user, got, c.want)
		}
	}
}
