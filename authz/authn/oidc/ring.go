package oidc

import (
	"context"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"sync/atomic"
	"time"

	"github.com/caddy-oci/oci-registry/authz/authn/internal/lately"
	"github.com/caddy-oci/oci-registry/authz/keep"
)

// A Ring signs what a browser is given to keep, and knows it again. It is safe for
// concurrent use.
type Ring interface {
	// Sign returns the signature of a message, and the name of its key: letters and
	// digits.
	Sign(ctx context.Context, message []byte) (key string, signature []byte, err error)

	// Verify reports whether the signature is one of that key, and the key is still
	// good. An error means that it couldn't be found out.
	Verify(ctx context.Context, key string, message, signature []byte) (bool, error)

	// Replace makes a new key, and all others bad, at once at this replica.
	Replace(ctx context.Context) error
}

const (
	minSecret  = 32               // bytes
	ringAge    = 5 * time.Second  // a key that's gone from the Store is gone here
	ringPause  = time.Second      // between two looks for a key that isn't known
	ringNotice = 10 * time.Second // a new key is known by all replicas
)

// ringKeys are in the order in which they were made.
type ringKeys []ringKey

type ringKey struct {
	ID     string    `json:"id"`
	Secret []byte    `json:"secret"`
	Made   time.Time `json:"made"`
}

func (k ringKey) sign(message []byte) []byte {
	h := hmac.New(sha256.New, k.Secret)
	h.Write(message)
	return h.Sum(nil)
}

func (k ringKeys) verify(id string, message, signature []byte) bool {
	i := k.find(id)
	return i >= 0 && hmac.Equal(k[i].sign(message), signature)
}

func (k ringKeys) find(id string) int {
	return slices.IndexFunc(k, func(key ringKey) bool { return key.ID == id })
}

// signer is the newest key that everybody has had time to learn of.
func (k ringKeys) signer(now time.Time) ringKey {
	for _, key := range slices.Backward(k) {
		if now.Sub(key.Made) >= ringNotice {
			return key
		}
	}
	return k[0]
}

// storedRing keeps its keys in a keep.Store.
type storedRing struct {
	store           keep.Store
	key             string
	rotate, overlap time.Duration
	keys            atomic.Pointer[lately.Value[ringKeys]]
}

// StoredRing returns a Ring whose secrets are a value in a Store, made when they're
// needed first. Replicas share them. A new one is made every rotate, and an old one
// stays good for the overlap after that, which is to be no less than a session's
// Lifetime. Without the value in the Store all sessions end within seconds, and so they
// do at other replicas once the keys are replaced.
func StoredRing(store keep.Store, key string, rotate, overlap time.Duration) Ring {
	r := &storedRing{store: store, key: key, rotate: rotate, overlap: overlap}
	r.forget()
	return r
}

// forget has the keys read anew.
func (r *storedRing) forget() {
	r.keys.Store(lately.New(lately.Options[ringKeys]{Fetch: r.load, Age: ringAge, Pause: ringPause}))
}

func (r *storedRing) Sign(ctx context.Context, message []byte) (string, []byte, error) {
	keys, err := r.keys.Load().Get(ctx)
	if err != nil {
		return "", nil, err
	}
	k := keys.Value.signer(time.Now())
	return k.ID, k.sign(message), nil
}

func (r *storedRing) Verify(ctx context.Context, key string, message, signature []byte) (bool, error) {
	known := r.keys.Load()
	keys, err := known.Get(ctx)
	if err != nil {
		return false, err
	}
	if keys.Value.find(key) < 0 {
		if keys, err = known.Newer(ctx, keys); err != nil {
			return false, err
		}
	}
	return keys.Value.verify(key, message, signature), nil
}

// load returns the keys of now, and makes a new one when it's time.
func (r *storedRing) load(ctx context.Context) (ringKeys, error) {
	for range 5 { // others may be faster, but not for ever
		keys, version, err := r.read(ctx)
		if err != nil {
			return nil, err
		}
		now := time.Now()
		if len(keys) > 0 && now.Sub(keys[len(keys)-1].Made) < r.rotate {
			return keys, nil
		}
		keys = slices.DeleteFunc(keys, func(k ringKey) bool { return now.Sub(k.Made) >= r.rotate+ringNotice+r.overlap })
		keys = append(keys, newRingKey(now))
		if err := r.save(ctx, keys, version); !errors.Is(err, keep.ErrChanged) {
			return keys, err
		}
	}
	return nil, errKeysChange
}

var errKeysChange = errors.New("the keys of sessions change all the time")

// Replace implements Ring. It needn't be able to read what's there.
func (r *storedRing) Replace(ctx context.Context) error {
	for range 5 { // others may be faster, but not for ever
		_, version, err := r.store.Load(ctx, r.key)
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("load the keys of sessions: %w", err)
		}
		err = r.save(ctx, ringKeys{newRingKey(time.Now())}, version)
		if err == nil {
			r.forget()
		}
		if !errors.Is(err, keep.ErrChanged) {
			return err
		}
	}
	return errKeysChange
}

func (r *storedRing) save(ctx context.Context, keys ringKeys, version string) error {
	value, err := json.Marshal(struct{ Keys ringKeys }{keys})
	if err != nil {
		return err
	}
	if _, err = r.store.Save(ctx, r.key, value, version); err != nil {
		return fmt.Errorf("save the keys of sessions: %w", err)
	}
	return nil
}

func (r *storedRing) read(ctx context.Context) (ringKeys, string, error) {
	value, version, err := r.store.Load(ctx, r.key)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, "", nil
	}
	if err != nil {
		return nil, "", fmt.Errorf("load the keys of sessions: %w", err)
	}
	var stored struct{ Keys ringKeys }
	if err := json.Unmarshal(value, &stored); err != nil {
		return nil, "", fmt.Errorf("the keys of sessions (%s) aren't what was saved", r.key)
	}
	for _, k := range stored.Keys {
		if len(k.Secret) < minSecret {
			return nil, "", fmt.Errorf("the keys of sessions (%s) aren't what was saved", r.key)
		}
	}
	return stored.Keys, version, nil
}

func newRingKey(now time.Time) ringKey {
	k := ringKey{ID: rand.Text()[:8], Secret: make([]byte, minSecret), Made: now}
	_, _ = rand.Read(k.Secret) // never fails
	return k
}
