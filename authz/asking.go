package authz

import (
	"context"
	"fmt"
	"slices"

	"github.com/caddy-oci/oci-registry/authz/glob"
	"github.com/caddy-oci/oci-registry/oci"
)

// asking is one question that's put to a policy.
type asking struct {
	policy   *Policy
	question *Question

	// asked is what conditions are asked, once there's one to ask.
	asked *Case
}

// ruling is what was decided of one access.
type ruling struct {
	outcome outcome
	entry   *entry     // that counts for the repository; nil if there's none
	by      *rule      // what allows it, whatever the outcome; nil if nothing does
	glob    *glob.Glob // of read_only or no_overwrite, if that's the outcome

	message string // of the last condition that wasn't met
	err     error  // of the last condition that had no answer
	unmet   bool   // a condition wasn't met, or had no answer
}

type outcome uint8

// The outcomes.
const (
	noRule outcome = iota
	granted
	readOnly
	protected   // the tag can't move
	beyondLimit // the credential's scopes don't include it
)

// settle decides about one access.
func (a *asking) settle(ctx context.Context, w Access) ruling {
	var r ruling
	action := w.Action.number()
	switch {
	case action < 0:
		return r
	case w.Repository.IsZero() && action == list:
		if a.policy.anonymousLists || !a.question.Who.IsAnonymous() {
			r.outcome = granted
		}
		return r
	}
	if !w.Repository.IsZero() {
		r.entry = a.policy.entryFor(w.Repository)
	}
	a.consult(ctx, &r, w, action)
	if r.by == nil {
		return r
	}
	r.outcome = granted
	a.restrict(ctx, &r, w)
	return r
}

// consult looks for what allows w: the rules of the entry, then those of admins.
func (a *asking) consult(ctx context.Context, r *ruling, w Access, action int) {
	if r.entry != nil {
		a.ask(ctx, r, &r.entry.grants[action], w)
	}
	if r.by == nil {
		a.ask(ctx, r, &a.policy.admins.grants[action], w)
	}
}

// ask looks for a rule among g whose conditions are met. Those without any are
// asked first, since they're asked for free.
func (a *asking) ask(ctx context.Context, r *ruling, g *grants, w Access) {
	g.each(&a.question.Who, func(rule *rule) bool {
		if len(rule.conditions) == 0 {
			r.by = rule
		}
		return r.by == nil
	})
	if r.by != nil || !g.conditional {
		return
	}
	last := -1
	g.each(&a.question.Who, func(rule *rule) bool {
		met, message, err := a.meets(ctx, rule, w)
		r.unmet = r.unmet || !met
		switch {
		case met:
			r.by = rule
		case err != nil:
			r.err = err
		case message != "" && rule.order > last:
			r.message, last = message, rule.order
		}
		return r.by == nil
	})
}

// meets reports whether all conditions of a rule are met. If not, it returns the
// message of the one that isn't, or the error of the one that couldn't say.
func (a *asking) meets(ctx context.Context, r *rule, w Access) (met bool, message string, err error) {
	for _, c := range r.conditions {
		if met, err = c.Met(ctx, a.about(w)); err != nil {
			return false, "", fmt.Errorf("the condition %s couldn't be asked: %w", nameOf(c), err)
		}
		if !met {
			return false, c.Message(), nil
		}
	}
	return true, "", nil
}

// about returns what a condition is asked about w.
func (a *asking) about(w Access) Case {
	if a.asked == nil {
		a.asked = &Case{Question: *a.question, Admin: a.policy.admins.names(&a.question.Who)}
		a.asked.Question.Who.Groups = a.policy.groupsOf(a.question.Who)
	}
	c := *a.asked
	c.Access = w
	return c
}

// groupsOf returns the groups that who is in, by its source and by the Config.
func (p *Policy) groupsOf(who Identity) []string {
	local := p.groups[who.ID]
	if at := p.groupsAt[account{who.Provider, who.ID, false}]; len(at) > 0 {
		local = append(slices.Clip(local), at...)
	}
	if len(local) == 0 {
		return who.Groups
	}
	all := slices.Clone(who.Groups)
	for _, name := range local {
		if !slices.Contains(all, name) {
			all = append(all, name)
		}
	}
	return all
}

// restrict applies to what a rule has granted what holds for everybody.
func (a *asking) restrict(ctx context.Context, r *ruling, w Access) {
	if w.Action.changes() {
		if g := a.policy.readOnlyFor(w.Repository); g != nil {
			r.outcome, r.glob = readOnly, g
			return
		}
	}
	if w.Action == Overwrite {
		if g := a.policy.protects(w); g != nil && !a.mayIgnoreNoOverwrite(ctx, w) {
			r.outcome, r.glob = protected, g
			return
		}
	}
	if !a.question.Who.WithinLimit(w) {
		r.outcome = beyondLimit
	}
}

func (p *Policy) readOnlyFor(n oci.Name) *glob.Glob {
	for _, g := range p.readOnly {
		if g.Match(n.String()) {
			return g
		}
	}
	return nil
}

// protects returns the glob that protects the tag of w, or nil if none does. If w
// doesn't say which tag, it may be one that's protected.
func (p *Policy) protects(w Access) *glob.Glob {
	if _, isDigest := w.Reference.Digest(); isDigest {
		return nil
	}
	tag, _ := w.Reference.Tag()
	for _, n := range p.noOverwrite {
		if !n.repositories.Match(w.Repository.String()) {
			continue
		}
		for _, g := range n.tags {
			if tag.IsZero() || g.Match(tag.String()) {
				return g
			}
		}
	}
	return nil
}

func (a *asking) mayIgnoreNoOverwrite(ctx context.Context, w Access) bool {
	may := false
	a.policy.admins.grants[overwrite].each(&a.question.Who, func(r *rule) bool {
		if r.ignoreNoOverwrite {
			may, _, _ = a.meets(ctx, r, w)
		}
		return !may
	})
	return may
}

// mayOverwrite reports whether each push that was asked for may move its tag.
func (a *asking) mayOverwrite(ctx context.Context) bool {
	pushes := 0
	for _, w := range a.question.Want {
		if w.Action != Push && w.Action != Overwrite {
			continue
		}
		pushes++
		w.Action = Overwrite
		if r := a.settle(ctx, w); r.outcome != granted {
			return false
		}
	}
	return pushes > 0
}
