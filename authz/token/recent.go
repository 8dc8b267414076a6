package token

import (
	"context"
	"time"

	lru "github.com/hashicorp/golang-lru/v2"
	"golang.org/x/sync/singleflight"
)

// recent has what Directories have said lately, by whom it's about. They are asked over a
// network, and a user has many tokens.
type recent[T any] struct {
	age    time.Duration // for how long an answer counts
	said   *lru.Cache[string, answered[T]]
	asking singleflight.Group
}

// answered is an answer, and when the question was asked.
type answered[T any] struct {
	answer T
	at     time.Time
}

func newRecent[T any](age time.Duration) *recent[T] {
	said, _ := lru.New[string, answered[T]](remembered) // it fails for a size that isn't positive
	return &recent[T]{age: age, said: said}
}

// of is what a user is found by.
func of(provider, user string) string { return provider + "\x00" + user }

// get returns an answer as of age ago or later. Those that come while the question is
// asked wait for the same answer, each until its ctx ends. Errors aren't remembered.
func (r *recent[T]) get(ctx context.Context, key string, ask func(context.Context) (T, error)) (answer T, err error) {
	if a, ok := r.said.Get(key); ok && time.Since(a.at) < r.age {
		return a.answer, nil
	}
	done := r.asking.DoChan(key, func() (any, error) {
		whole, cancel := context.WithTimeout(context.WithoutCancel(ctx), patience)
		defer cancel()
		return r.now(whole, key, ask)
	})
	select {
	case a := <-done:
		answer, _ = a.Val.(T)
		return answer, a.Err
	case <-ctx.Done():
		return answer, ctx.Err()
	}
}

// now returns the answer of now.
func (r *recent[T]) now(ctx context.Context, key string, ask func(context.Context) (T, error)) (T, error) {
	at := time.Now()
	answer, err := ask(ctx)
	if err == nil {
		r.said.Add(key, answered[T]{answer, at})
	}
	return answer, err
}
