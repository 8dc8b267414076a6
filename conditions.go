package ociregistry

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"time"

	"github.com/caddy-oci/oci-registry/authz"
)

// attentive is a policy that tells the operator of conditions that couldn't be asked. They
// allow nothing, and to a client that's a refusal like any other: mostly it's about
// something that the client hasn't got, as a claim. But it may be a mistake.
type attentive struct {
	*authz.Policy

	registry *Registry

	mu   sync.Mutex
	told map[string]time.Time // when, by the pattern whose rules they were
}

// tellEvery is how often the log is told of the conditions of one pattern.
const tellEvery = time.Minute

// Authorize implements authz.Authorizer.
func (a *attentive) Authorize(ctx context.Context, q authz.Question) (authz.Answer, error) {
	answer, err := a.Policy.Authorize(ctx, q)
	if err != nil && ctx.Err() == nil {
		if refusal, ok := errors.AsType[*authz.Refusal](err); ok && refusal.Err != nil && !errors.Is(refusal, authz.ErrLimit) {
			a.tell(ctx, refusal)
		}
	}
	return answer, err
}

func (a *attentive) tell(ctx context.Context, refusal *authz.Refusal) {
	a.registry.meters.unasked.Inc()
	a.mu.Lock()
	recent := time.Since(a.told[refusal.Pattern]) < tellEvery
	if !recent {
		a.told[refusal.Pattern] = time.Now()
	}
	a.mu.Unlock()
	if recent {
		return
	}
	a.registry.log.LogAttrs(ctx, slog.LevelWarn, "policy: refused, since a condition couldn't be asked; for a minute the log isn't told again of this pattern",
		slog.String("pattern", refusal.Pattern), slog.String("action", string(refusal.Access.Action)),
		slog.String("repository", refusal.Access.Repository.String()), slog.Any("error", refusal.Err))
}
