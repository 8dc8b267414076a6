package authn

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"hash"
	"time"

	"github.com/caddy-oci/oci-registry/authz"
)

// credential stands for a name, a password, and what the source knew of the user.
type credential struct {
	sum     [sha256.Size]byte
	version uint64
}

// answer is what a source has said.
type answer struct {
	who authz.Identity
	err error
}

// verified is the answer to a right password.
type verified struct {
	who   authz.Identity
	until time.Time
}

// flight is one question to the source. The answer is set before done is closed.
type flight struct {
	credential credential
	done       chan struct{}

	answer
	broken bool // there's no answer; somebody else has to ask
}

// board returns what is remembered of c. If nothing is, it returns the question about it
// that is being asked, or a new one that the caller must ask.
func (v *Verified) board(c credential) (_ answer, _ *flight, leads bool) {
	now := time.Now()
	v.mu.Lock()
	defer v.mu.Unlock()
	if a, ok := v.recall(c, now); ok {
		return a, nil, false
	}
	if f, ok := v.flights[c]; ok {
		return answer{}, f, false
	}
	f := &flight{credential: c, done: make(chan struct{}), broken: true}
	v.flights[c] = f
	return answer{}, f, true
}

// recall returns what is remembered. The caller has locked mu.
func (v *Verified) recall(c credential, now time.Time) (answer, bool) {
	if e, ok := v.right.Get(c); ok {
		if now.Before(e.until) {
			return answer{who: e.who}, true
		}
		v.right.Remove(c)
	}
	if until, ok := v.wrong.Get(c); ok {
		if now.Before(until) {
			return answer{err: ErrRefused}, true
		}
		v.wrong.Remove(c)
	}
	return answer{}, false
}

// ask asks the source when it's f's turn. If its caller gave up, or wasn't let, that
// says nothing about those who wait for f, and one of them asks.
func (v *Verified) ask(ctx context.Context, f *flight, user, password string) (authz.Identity, error) {
	defer v.land(f, user)
	if err := permit(ctx, user); err != nil {
		return authz.Identity{}, err
	}
	if err := v.enter(ctx); err != nil {
		return authz.Identity{}, err
	}
	defer func() { <-v.slots }()
	f.who, f.err = v.source.Authenticate(ctx, user, password)
	if f.err != nil {
		f.who = authz.Identity{}
	}
	named(ctx, user).note(f.err)
	f.broken = f.err != nil && !errors.Is(f.err, ErrRefused) && ctx.Err() != nil
	return f.who, f.err
}

// enter waits for a slot.
func (v *Verified) enter(ctx context.Context) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	select {
	case v.slots <- struct{}{}:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// land ends f, and remembers its answer if the source knows the same of the user as when
// it began. The version 0 comes twice: a user that was added and removed meanwhile isn't
// remembered.
func (v *Verified) land(f *flight, user string) {
	changed := v.versioned && (v.version(user) != f.credential.version || f.err == nil && f.credential.version == 0)
	v.mu.Lock()
	defer v.mu.Unlock()
	delete(v.flights, f.credential)
	switch now := time.Now(); {
	case f.broken || changed:
	case f.err == nil:
		v.right.Add(f.credential, verified{f.who, now.Add(v.ttl)})
	case errors.Is(f.err, ErrRefused):
		v.wrong.Add(f.credential, now.Add(v.refusedTTL))
	}
	close(f.done)
}

// mac is what makes a credential of a name and a password.
type mac struct {
	hash.Hash

	message []byte
	sum     [sha256.Size]byte
}

func (v *Verified) credential(user, password string) credential {
	m, ok := v.macs.Get().(*mac)
	if !ok {
		m = &mac{Hash: hmac.New(sha256.New, v.secret[:])}
	}
	defer v.macs.Put(m)
	m.message = binary.AppendUvarint(m.message[:0], uint64(len(user))) // else "a"+"bc" were "ab"+"c"
	m.message = append(append(m.message, user...), password...)
	m.Reset()
	_, _ = m.Write(m.message) // a hash doesn't fail
	m.Sum(m.sum[:0])
	clear(m.message)
	return credential{m.sum, v.version(user)}
}
