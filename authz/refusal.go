package authz

import (
	"context"
	"errors"
	"fmt"

	"github.com/caddy-oci/oci-registry/oci"
)

// Refusal is the cause of the error that a Policy refuses with. Its text is for the
// client; what it's wrapped in has the code.
//
// A decision is made from the name of a repository, never from what's stored, and
// the text says no more than the client knows: so it can't tell a repository that's
// forbidden from one that doesn't exist. Only who may list the repository, or is
// named by a rule, is told which glob decides or which condition isn't met.
type Refusal struct {
	// Access is what was refused.
	Access Access

	// Pattern is the glob whose rules counted for the repository; empty if none matched.
	Pattern string

	// Conditional is whether a rule would allow it whose conditions aren't met. They
	// may be when something is done that's asked about beforehand, as for a token.
	Conditional bool

	// Err is ErrLimit if it's the limit of the credential, or why a condition couldn't
	// be asked. It may say more than the client may know. Default: nil.
	Err error

	text string
}

// Error returns the text for the client.
func (r *Refusal) Error() string { return r.text }

// Unwrap returns Err.
func (r *Refusal) Unwrap() error { return r.Err }

// reason is the Detail of a refusal with a condition's message, in zot's form.
type reason struct {
	Reason string `json:"reason"`
}

// refuse returns the error for a ruling that isn't granted.
func (a *asking) refuse(ctx context.Context, w Access, r ruling) error {
	cause := &Refusal{Access: w, Conditional: r.outcome == noRule && r.unmet, Err: r.err, text: a.refusalText(ctx, w, r)}
	if r.entry != nil {
		cause.Pattern = r.entry.glob.String()
	}
	if r.outcome == beyondLimit {
		cause.Err = ErrLimit
	}
	code := oci.Denied
	if a.signingInHelps(w, r) {
		code = oci.Unauthorized
	}
	err, _ := errors.AsType[*oci.Error](oci.Errorf(code, "%w", cause))
	if r.outcome == noRule && r.message != "" {
		err.Detail = reason{r.message}
	}
	return err
}

// signingInHelps reports whether somebody who has signed in may have w, or an
// anonymous caller with a token of more scopes.
func (a *asking) signingInHelps(w Access, r ruling) bool {
	action := w.Action.number()
	switch {
	case !a.question.Who.IsAnonymous() || action < 0:
		return false
	case r.outcome == beyondLimit:
		return true
	case r.outcome != noRule:
		return false
	case w.Repository.IsZero() && action == list:
		return a.policy.somebodyLists
	case w.Action.changes() && a.policy.readOnlyFor(w.Repository) != nil:
		return false
	}
	return r.entry != nil && r.entry.grants[action].signingInHelps() || a.policy.admins.grants[action].signingInHelps()
}

func (a *asking) refusalText(ctx context.Context, w Access, r ruling) string {
	switch r.outcome {
	case readOnly:
		return fmt.Sprintf("%s is read-only (read_only %s)", w.what(), r.glob)
	case protected:
		return fmt.Sprintf("tags like %s of %s can't move (no_overwrite %[1]s)", r.glob, w.what())
	case beyondLimit:
		return limitText(w)
	case noRule, granted:
	}
	rules := "the policy has"
	if r.entry != nil && a.mayKnow(ctx, w) {
		rules = fmt.Sprintf("of the policy only the rules for %s count here, which have", r.entry.glob)
	}
	whom := "anonymous callers"
	if !a.question.Who.IsAnonymous() {
		whom = a.question.Who.ID
	}
	text := fmt.Sprintf("%s: %s no 'allow %s' for %s", w.what(), rules, w.Action, whom)
	if r.message != "" {
		text += ": " + r.message
	}
	return text
}

// mayKnow reports whether who asks may know that the repository exists.
func (a *asking) mayKnow(ctx context.Context, w Access) bool {
	r := a.settle(ctx, Access{Action: List, Repository: w.Repository})
	return r.outcome == granted
}

// what names what an access is on.
func (a Access) what() string {
	if a.Repository.IsZero() {
		return "the registry"
	}
	return a.Repository.String()
}

func limitText(w Access) string {
	return fmt.Sprintf("%s: the scopes of the credential don't include %s", w.what(), w.Action)
}
