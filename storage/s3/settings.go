package s3

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"

	"github.com/caddy-oci/oci-registry/storage"
)

// settings tell how the bucket is set up: errNotFound if it isn't. Some stores have
// no such thing, and some callers may not know.
type settings interface {
	// versioning reports whether the bucket keeps what is overwritten and removed.
	versioning(ctx context.Context) (keeps bool, err error)

	// retention is how long objects can't be removed, in the store's words; "" if they can be.
	retention(ctx context.Context) (string, error)

	// rules are those that are enabled, of what becomes of objects as they get old.
	rules(ctx context.Context) ([]rule, error)

	// encryption is how objects are encrypted.
	encryption(ctx context.Context) (string, error)
}

// rule is what becomes of objects that are old.
type rule struct {
	ID       string
	Prefix   string // of the keys of those it's about
	Removes  bool
	Moves    string // the storage class to which
	OldOnes  bool   // it removes versions that were overwritten or removed
	OnTagged bool   // it's about objects with tags alone, which ours haven't got
}

// about reports whether objects below a prefix may be among those of the rule.
func (r *rule) about(prefix string) bool {
	return !r.OnTagged && (strings.HasPrefix(r.Prefix, prefix) || strings.HasPrefix(prefix, r.Prefix))
}

// The names of checks.
const (
	checkConditions = "conditions"
	checkLifecycle  = "lifecycle"
	checkVersioning = "versioning"
	checkRetention  = "retention"
	checkEncryption = "encryption"
)

// checkNames are in the order in which they're shown.
var checkNames = []string{checkConditions, checkLifecycle, checkVersioning, checkRetention, checkEncryption}

var _ storage.Diagnoser = (*Store)(nil)

// Diagnose implements storage.Diagnoser.
func (s *Store) Diagnose() []storage.Check {
	s.probe.mu.Lock()
	defer s.probe.mu.Unlock()
	all := make([]storage.Check, len(checkNames))
	for i, name := range checkNames {
		var ok bool
		if all[i], ok = s.probe.checks[name]; !ok {
			all[i] = storage.Check{Name: name, Verdict: storage.Pending, Says: "it's being looked at"}
		}
	}
	if s.options().ReadOnly && all[0].Verdict == storage.Pending {
		all[0] = storage.Check{Name: checkConditions, Verdict: storage.Unknown, Says: "they aren't looked at, since nothing is written: read_only"}
	}
	return all
}

// found notes what was found, and tells of it if that's news.
func (p *probe) found(ctx context.Context, c storage.Check) {
	p.mu.Lock()
	known := p.checks[c.Name] == c
	p.checks[c.Name] = c
	p.mu.Unlock()
	if known {
		return
	}
	level := slog.LevelInfo
	switch c.Verdict {
	case storage.Bad:
		level = slog.LevelError
	case storage.Warning, storage.Unknown, storage.Pending:
		level = slog.LevelWarn
	case storage.Good:
	}
	p.store.options().Log.Log(ctx, level, "the bucket was looked at", "check", c.Name, "verdict", c.Verdict, "says", c.Says)
}

// expires returns why nothing may be written, if the bucket's rules are against it.
func (p *probe) expires() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if c := p.checks[checkLifecycle]; c.Verdict == storage.Bad {
		return fmt.Errorf("%w: %s", errExpires, c.Says)
	}
	return nil
}

// look asks the bucket how it's set up. If it doesn't answer, that's unknown only
// if it's asked for the last time.
func (p *probe) look(ctx context.Context, last bool) {
	b := p.store.bucket
	rules, err := asked(ctx, p, b.rules)
	if !p.learn(ctx, p.store.keys.lifecycle(rules, err), err, last) {
		return
	}
	keeps, err := asked(ctx, p, b.versioning)
	if !p.learn(ctx, p.store.keys.versions(keeps, rules, err), err, last) {
		return
	}
	how, err := asked(ctx, p, b.retention)
	if !p.learn(ctx, retained(how, err), err, last) {
		return
	}
	how, err = asked(ctx, p, b.encryption)
	p.learn(ctx, encrypted(how, err), err, last)
}

// learn notes what came of asking, and reports whether to go on. An error is no
// news of what was answered before: above all, a rule that removes objects isn't
// gone because it can't be read.
func (p *probe) learn(ctx context.Context, c storage.Check, err error, last bool) bool {
	if passing(err) && !last {
		return false
	}
	if err == nil || !p.answered(c.Name) {
		p.found(ctx, c)
	}
	return true
}

func (p *probe) answered(name string) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	c, ok := p.checks[name]
	return ok && c.Verdict != storage.Unknown
}

// looked reports whether look has come to its end.
func (p *probe) looked() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	_, ok := p.checks[checkEncryption]
	return ok
}

// asked asks until there's an answer. What isn't set up is no error.
func asked[T any](ctx context.Context, p *probe, call func(context.Context) (T, error)) (T, error) {
	v, err := retry(ctx, p.store.patience, func() (T, error) { return call(ctx) })
	if errors.Is(err, errNotFound) {
		err = nil
	}
	return v, err
}

func unknown(name, what string, err error) storage.Check {
	return storage.Check{Name: name, Verdict: storage.Unknown, Says: fmt.Sprintf("%s can't be read: %v", what, err)}
}

// lifecycle says what the bucket's rules do to objects below the prefix. What a
// probe has left may go.
func (k keys) lifecycle(rules []rule, err error) storage.Check {
	const name = checkLifecycle
	if err != nil {
		c := unknown(name, "the rules of what becomes of old objects", err)
		c.Says += "; make sure that none removes or moves objects" + k.below()
		return c
	}
	concerning := func(r rule) bool { return r.about(k.prefix) && !strings.HasPrefix(r.Prefix, k.probe("")) }
	if i := slices.IndexFunc(rules, func(r rule) bool { return concerning(r) && r.Removes }); i >= 0 {
		return storage.Check{Name: name, Verdict: storage.Bad, Says: fmt.Sprintf(
			"the rule %q removes objects%s by their age, and so what was pushed: take it away, or limit it to other keys", rules[i].ID, k.below())}
	}
	if i := slices.IndexFunc(rules, func(r rule) bool { return concerning(r) && isCold(r.Moves) }); i >= 0 {
		return storage.Check{Name: name, Verdict: storage.Warning, Says: fmt.Sprintf(
			"the rule %q moves objects%s to %s, from where they can't be pulled: take it away, or limit it to other keys", rules[i].ID, k.below(), rules[i].Moves)}
	}
	return storage.Check{Name: name, Verdict: storage.Good, Says: "no rule removes objects" + k.below() + " by their age"}
}

// isCold reports whether an object of a storage class has to be brought back before it's read.
func isCold(class string) bool { return class == "GLACIER" || class == "DEEP_ARCHIVE" }

// below says which objects are ours.
func (k keys) below() string {
	if k.prefix == "" {
		return " of the bucket"
	}
	return " below " + k.prefix
}

func (k keys) versions(keeps bool, rules []rule, err error) storage.Check {
	const name = checkVersioning
	switch {
	case err != nil:
		return unknown(name, "whether the bucket keeps old versions", err)
	case !keeps:
		return storage.Check{Name: name, Verdict: storage.Good, Says: "old versions aren't kept"}
	case slices.ContainsFunc(rules, func(r rule) bool { return r.OldOnes && !r.OnTagged && strings.HasPrefix(k.prefix, r.Prefix) }):
		return storage.Check{Name: name, Verdict: storage.Good, Says: "old versions are kept until a rule removes them"}
	}
	return storage.Check{Name: name, Verdict: storage.Warning, Says: "old versions are kept for ever, and every push makes some: " +
		"have a rule remove noncurrent versions" + k.below() + " after some days"}
}

func retained(how string, err error) storage.Check {
	const name = checkRetention
	switch {
	case err != nil:
		return unknown(name, "whether the bucket locks objects", err)
	case how == "":
		return storage.Check{Name: name, Verdict: storage.Good, Says: "objects can be removed"}
	}
	return storage.Check{Name: name, Verdict: storage.Warning, Says: "objects are locked (" + how + "): what isn't needed any more takes room for so long"}
}

func encrypted(how string, err error) storage.Check {
	const name = checkEncryption
	switch {
	case err != nil:
		return unknown(name, "whether the bucket encrypts objects", err)
	case how == "":
		return storage.Check{Name: name, Verdict: storage.Good, Says: "the bucket encrypts nothing by itself"}
	}
	return storage.Check{Name: name, Verdict: storage.Good, Says: "the bucket encrypts by " + how}
}
