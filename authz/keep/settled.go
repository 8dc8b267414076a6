package keep

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"sync/atomic"
)

var (
	// ErrElsewhere is that a registry's Store is empty, and another one that it could
	// have isn't: to make new keys would end all that's signed by the old ones.
	ErrElsewhere = errors.New("the registry's keys are elsewhere")

	// ErrMoving is that what's in a Store is being moved, or was.
	ErrMoving = errors.New("the registry's keys are being moved, or were moved away")

	// ErrAway is that what's in one of the two Stores that a registry could have is being
	// moved, or was, and not to or from the other one: somebody knew that as another one.
	ErrAway = errors.New("the registry's keys were moved to or from a third place")
)

// Settled is a Store that's used only if what should be there isn't somewhere else.
// Only Settle makes them.
type Settled struct {
	own, other Store
	advice     string
	sure       atomic.Bool
}

var _ Store = (*Settled)(nil)

// Settle returns own, which is used unless it's empty and other isn't. That is found out
// when it's used first, and once it's known it's known. Advice is what ErrElsewhere and
// ErrMoving say is to be done.
func Settle(own, other Store, advice string) *Settled {
	return &Settled{own: own, other: other, advice: advice}
}

// Check returns nil if the Store is where values are, or if there are none yet.
// Otherwise the error is ErrElsewhere, ErrMoving or ErrAway, or it couldn't be found out.
func (s *Settled) Check(ctx context.Context) error {
	if s.sure.Load() {
		return nil
	}
	m, err := s.stays(ctx)
	if err != nil {
		return err
	}
	empty, err := isEmpty(ctx, s.own)
	if err == nil && empty && m != arrived {
		err = s.checkOther(ctx)
	}
	if err != nil {
		return err
	}
	s.sure.Store(true)
	return nil
}

func (s *Settled) checkOther(ctx context.Context) error {
	other, err := standingOf(ctx, s.other)
	switch {
	case err != nil:
		return fmt.Errorf("find out whether the registry's keys are elsewhere: %w", err)
	case other.mark == left || other.mark == arriving:
		return ErrAway
	case !other.empty || other.mark != "":
		return fmt.Errorf("%w: %s", ErrElsewhere, s.advice)
	}
	return nil
}

// stays returns ErrMoving if what's here is being moved, or was; otherwise its mark.
func (s *Settled) stays(ctx context.Context) (mark, error) {
	m, _, err := readMark(ctx, s.own)
	if err == nil && m != "" && m != arrived {
		err = fmt.Errorf("%w: %s", ErrMoving, s.advice)
	}
	return m, err
}

func isEmpty(ctx context.Context, s Store) (bool, error) {
	for key, err := range s.List(ctx, "") {
		if err != nil || key != markKey {
			return false, err
		}
	}
	return true, nil
}

// Load implements Store.
func (s *Settled) Load(ctx context.Context, key string) (value []byte, version string, err error) {
	if err := s.Check(ctx); err != nil {
		return nil, "", err
	}
	return s.own.Load(ctx, key)
}

// Save implements Store. What's new isn't made where a Move has begun meanwhile.
func (s *Settled) Save(ctx context.Context, key string, value []byte, version string) (now string, err error) {
	if err := s.Check(ctx); err != nil {
		return "", err
	}
	if version == "" {
		if _, err := s.stays(ctx); err != nil {
			return "", err
		}
	}
	return s.own.Save(ctx, key, value, version)
}

// Delete implements Store.
func (s *Settled) Delete(ctx context.Context, key, version string) error {
	if err := s.Check(ctx); err != nil {
		return err
	}
	return s.own.Delete(ctx, key, version)
}

// List implements Store.
func (s *Settled) List(ctx context.Context, prefix string) iter.Seq2[string, error] {
	return func(yield func(string, error) bool) {
		if err := s.Check(ctx); err != nil {
			yield("", err)
			return
		}
		for key, err := range s.own.List(ctx, prefix) {
			if key == markKey {
				continue
			}
			if !yield(key, err) {
				return
			}
		}
	}
}
