package authz

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/caddy-oci/oci-registry/authz/glob"
	"github.com/caddy-oci/oci-registry/oci"
)

// Explanation is how a Policy decides a question, for whom the policy belongs to:
// it says more than who asked may know.
type Explanation struct {
	// User is who asks, empty if nobody has signed in, and Groups the groups of the
	// user, those of the Config included.
	User   string   `json:"user"`
	Groups []string `json:"groups,omitempty"`

	// Granted says whether all of Accesses are granted, and Overwrite whether a push
	// among them may move its tag.
	Granted   bool `json:"granted"`
	Overwrite bool `json:"overwrite"`

	// Code and Answer are what the client is told if not.
	Code   oci.Code `json:"code,omitempty"`
	Answer string   `json:"answer,omitempty"`

	// Accesses are what was asked for, in that order.
	Accesses []Verdict `json:"accesses"`
}

// Verdict is how one access is decided.
type Verdict struct {
	Action     Action `json:"action"`
	Repository string `json:"repository,omitempty"` // empty for the registry as such
	Reference  string `json:"reference,omitempty"`
	Granted    bool   `json:"granted"`

	// Because says why in one sentence.
	Because string `json:"because"`

	// Pattern is the glob whose rules count, and Lost those that match as well and
	// are shorter, the longest first.
	Pattern string   `json:"pattern,omitempty"`
	Lost    []string `json:"lost,omitempty"`

	// Rule is the rule that allows it, whatever forbids it nevertheless.
	Rule string `json:"rule,omitempty"`

	// Admin says that this is an admin rule.
	Admin bool `json:"admin,omitempty"`

	// Tried are the rules of Pattern, then those of admins, in the order in which
	// they're written, and what each says of the access.
	Tried []Tried `json:"tried,omitempty"`
}

// Tried is one rule, and why it does or doesn't allow an access.
type Tried struct {
	Rule    string `json:"rule"`
	Allows  bool   `json:"allows"`
	Because string `json:"because,omitempty"`
}

// Explain decides q as Authorize does and says why. Conditions are asked again for
// that, as ctx and q have it.
func (p *Policy) Explain(ctx context.Context, q Question) Explanation {
	a := asking{policy: p, question: &q}
	answer, err := p.Authorize(ctx, q)
	e := Explanation{User: q.Who.ID, Groups: p.groupsOf(q.Who), Granted: err == nil, Overwrite: answer.Overwrite}
	if refusal, ok := errors.AsType[*oci.Error](err); ok {
		e.Code, e.Answer = refusal.Code, refusal.Error()
	}
	for _, w := range q.Want {
		e.Accesses = append(e.Accesses, a.explain(ctx, w))
	}
	return e
}

func (a *asking) explain(ctx context.Context, w Access) Verdict {
	r := a.settle(ctx, w)
	v := Verdict{
		Action: w.Action, Repository: w.Repository.String(), Reference: w.Reference.String(),
		Granted: r.outcome == granted, Because: a.because(w, r),
	}
	if r.by != nil {
		v.Rule, v.Admin = r.by.named(), slices.Contains(a.policy.admins.rules, r.by)
	}
	if w.Action == List && w.Repository.IsZero() {
		return v
	}
	if r.entry != nil {
		v.Pattern = r.entry.glob.String()
		v.Lost = a.policy.losers(r.entry, w.Repository)
		v.Tried = a.try(ctx, v.Tried, r.entry, w)
	}
	v.Tried = a.try(ctx, v.Tried, &a.policy.admins, w)
	return v
}

func (r *rule) named() string { return r.where + ": " + r.text }

// losers are the globs that match n beside that of the entry that counts.
func (p *Policy) losers(winner *entry, n oci.Name) []string {
	var lost []*glob.Glob
	for _, e := range p.entries {
		if e != winner && e.glob.Match(n.String()) {
			lost = append(lost, e.glob)
		}
	}
	slices.SortFunc(lost, glob.Compare)
	patterns := make([]string, len(lost))
	for i, g := range lost {
		patterns[i] = g.String()
	}
	return patterns
}

func (a *asking) because(w Access, r ruling) string {
	switch r.outcome {
	case granted:
		if r.by == nil && a.question.Who.IsAnonymous() {
			return "some rule lets anonymous callers list repositories, and each list shows only what they may see"
		} else if r.by == nil {
			return "who has signed in may ask for lists, and each list shows only what they may see"
		}
		return r.by.where + " allows it"
	case readOnly:
		return fmt.Sprintf("%s would allow it, but the repository is read-only: read_only %s", r.by.where, r.glob)
	case protected:
		return fmt.Sprintf("%s would allow it, but the tag can't move: no_overwrite %s", r.by.where, r.glob)
	case beyondLimit:
		return r.by.where + " would allow it, but the scopes of the credential don't include it"
	case noRule:
	}
	switch {
	case w.Action.number() < 0:
		return "there's no such action"
	case w.Repository.IsZero() && w.Action == List:
		return "no rule lets anonymous callers list anything"
	case w.Repository.IsZero():
		return "no admin rule allows it, and no other is about the registry as such"
	case r.entry == nil:
		return "no pattern matches the repository, and no admin rule allows it"
	}
	return fmt.Sprintf("no rule for %s allows it, which alone count here, and no admin rule does", r.entry.glob)
}

// try adds to all what the rules of e say of w.
func (a *asking) try(ctx context.Context, all []Tried, e *entry, w Access) []Tried {
	for _, r := range e.rules {
		t := Tried{Rule: r.named()}
		t.Allows, t.Because = a.says(ctx, r, w)
		all = append(all, t)
	}
	return all
}

// says reports whether r allows w, and if not why.
func (a *asking) says(ctx context.Context, r *rule, w Access) (allows bool, because string) {
	if !r.to.include(&a.question.Who, a.policy.groupsOf(a.question.Who)) {
		return false, r.to.unnamed(&a.question.Who)
	}
	if n := w.Action.number(); n < 0 || !r.actions[n] {
		return false, fmt.Sprintf("it doesn't allow %s", w.Action)
	}
	for _, c := range r.conditions {
		met, err := c.Met(ctx, a.about(w))
		switch {
		case err != nil:
			return false, fmt.Sprintf("its condition %s couldn't be asked: %v", nameOf(c), err)
		case !met:
			return false, fmt.Sprintf("its condition %s isn't met", nameOf(c))
		}
	}
	return true, ""
}

// include reports whether who, whose groups these are, is among s.
func (s *subjects) include(who *Identity, groups []string) bool {
	if who.IsAnonymous() {
		return s.anonymous
	}
	return s.authenticated || slices.Contains(s.users, who.ID) ||
		slices.ContainsFunc(s.accounts, func(a account) bool { return a.includes(who) }) ||
		slices.ContainsFunc(s.groups, func(g string) bool { return slices.Contains(groups, g) })
}

// unnamed says why who isn't among s.
func (s *subjects) unnamed(who *Identity) string {
	for _, a := range s.accounts {
		if other := (Identity{ID: who.ID, Groups: who.Groups, Provider: a.provider}); !who.IsAnonymous() && a.includes(&other) {
			return fmt.Sprintf("it names %s, and who asks is known by another provider", a)
		}
	}
	return "it doesn't name who asks"
}

// nameOf returns what to call a condition: what it's made of, or what it tells.
func nameOf(c Condition) string {
	if s, ok := c.(fmt.Stringer); ok {
		return s.String()
	}
	return fmt.Sprintf("%q", c.Message())
}
