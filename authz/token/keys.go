package token

import (
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sync/singleflight"

	"github.com/caddy-oci/oci-registry/authz/keep"
)

const (
	keysKey = "token/keys"

	// lead is how long a new key is there before it signs, so that every replica has
	// it by then.
	lead = time.Hour

	// reloadEvery is how old the knowledge of the keys may be.
	reloadEvery = 3 * time.Second

	// reloadPause is between two loads for the sake of tokens whose key isn't known.
	reloadPause = 5 * time.Second

	// patience is how long loading them may take.
	patience = 10 * time.Second
)

// keyRecord is how the keys are kept, the oldest first. The last one that has begun
// signs; the others verify what they have signed.
type keyRecord struct {
	// Issuer tells the tokens of this registry from those of all others.
	Issuer string    `json:"issuer"`
	Keys   []keptKey `json:"keys"`
}

type keptKey struct {
	ID    string `json:"id"`
	Seed  []byte `json:"seed"` // of Ed25519, 32 bytes
	Begin int64  `json:"begin"`
}

// keySet is a record that's ready for use. It doesn't change.
type keySet struct {
	issuer string
	keys   []*signingKey
	byHead map[string]*signingKey // by the first part of a token, which says its kind, too
	byID   map[string]*signingKey
}

type signingKey struct {
	id      string
	begin   time.Time
	private ed25519.PrivateKey
	public  ed25519.PublicKey
}

// kind is what a token is for.
type kind string

const (
	access  kind = "at+jwt"
	refresh kind = "refresh+jwt"
)

// head returns the first part of the key's tokens. No other first part is accepted:
// there's no algorithm to choose.
func (k *signingKey) head(of kind) string {
	return base64.RawURLEncoding.EncodeToString(fmt.Appendf(nil, `{"alg":"EdDSA","kid":%q,"typ":%q}`, k.id, string(of)))
}

func newKeySet(rec keyRecord) (*keySet, error) {
	if rec.Issuer == "" || len(rec.Keys) == 0 {
		return nil, errors.New("no keys")
	}
	set := &keySet{issuer: rec.Issuer, byHead: make(map[string]*signingKey), byID: make(map[string]*signingKey)}
	for _, in := range rec.Keys {
		if len(in.Seed) != ed25519.SeedSize || in.ID == "" {
			return nil, errors.New("a key without an id, or of another size")
		}
		private := ed25519.NewKeyFromSeed(in.Seed)
		public, _ := private.Public().(ed25519.PublicKey)
		k := &signingKey{in.ID, time.Unix(in.Begin, 0), private, public}
		set.keys = append(set.keys, k)
		set.byID[k.id] = k
		set.byHead[k.head(access)], set.byHead[k.head(refresh)] = k, k
	}
	return set, nil
}

// signer is the newest key that has begun. Clocks may differ: if none has, it's the oldest.
func (s *keySet) signer(now time.Time) *signingKey {
	best := s.keys[0]
	for _, k := range s.keys[1:] {
		if !k.begin.After(now) {
			best = k
		}
	}
	return best
}

// keyring has the keys that the state has, and sees to it that there's a young one.
type keyring struct {
	store       keep.Store
	rotateEvery time.Duration
	keepFor     time.Duration // after the next one has begun
	log         *slog.Logger

	set    atomic.Pointer[keySet]
	loaded atomic.Int64 // when, in Unix nanoseconds
	loads  singleflight.Group

	mu     sync.Mutex // guards the rest, and which look set is of
	looks  uint64     // how often what the state has was looked at
	known  uint64     // which of the looks set is of
	forced time.Time  // when they were last loaded for an unknown one
}

func newKeyring(opts Options) *keyring {
	return &keyring{
		store: opts.State, rotateEvery: opts.RotateEvery,
		keepFor: max(opts.Life, opts.RefreshLife) + lead, log: opts.Log,
	}
}

// current returns the keys, no older than reloadEvery unless the state can't be asked.
func (r *keyring) current(ctx context.Context) (*keySet, error) {
	set := r.set.Load()
	if set != nil && time.Since(time.Unix(0, r.loaded.Load())) < reloadEvery {
		return set, nil
	}
	now, err := r.reload(ctx)
	if err == nil {
		return now, nil
	}
	if set == nil {
		return nil, fmt.Errorf("the keys that sign tokens: %w", err)
	}
	return set, ctx.Err()
}

// another loads the keys for a token whose key isn't known, unless that has just been
// tried; nil if they're the same.
func (r *keyring) another(ctx context.Context) *keySet {
	r.mu.Lock()
	wait := time.Since(r.forced) < reloadPause
	if !wait {
		r.forced = time.Now()
	}
	r.mu.Unlock()
	if wait {
		return nil
	}
	set, _ := r.reload(ctx) // which has logged why not
	return set
}

// reload loads the keys; those that come meanwhile wait for the same load, which
// doesn't end with any of them, each until its ctx ends.
func (r *keyring) reload(ctx context.Context) (*keySet, error) {
	done := r.loads.DoChan("", func() (any, error) {
		whole, cancel := context.WithTimeout(context.WithoutCancel(ctx), patience)
		defer cancel()
		set, err := r.load(whole)
		if err != nil && r.set.Load() != nil {
			r.loaded.Store(time.Now().UnixNano()) // not with each request
			r.log.ErrorContext(whole, "the keys that sign tokens can't be loaded; the ones that are known are used", slog.Any("error", err))
		}
		return set, err
	})
	select {
	case loaded := <-done:
		set, _ := loaded.Val.(*keySet)
		return set, loaded.Err
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// look begins to look at what the state has.
func (r *keyring) look() uint64 {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.looks++
	return r.looks
}

// put keeps what a look has found, unless a later one was faster. It returns what counts.
func (r *keyring) put(set *keySet, look uint64) *keySet {
	r.mu.Lock()
	defer r.mu.Unlock()
	if look > r.known {
		r.known = look
		r.set.Store(set)
		r.loaded.Store(time.Now().UnixNano())
	}
	return r.set.Load()
}

func (r *keyring) load(ctx context.Context) (*keySet, error) {
	for {
		look := r.look()
		rec, version, err := r.read(ctx)
		if err != nil {
			return nil, err
		}
		if next, due := r.rotated(rec, time.Now()); due {
			switch err = r.save(ctx, next, version); {
			case errors.Is(err, keep.ErrChanged):
				continue // another replica was faster
			case err == nil:
				rec = next
			case len(rec.Keys) == 0:
				return nil, err
			default:
				r.log.ErrorContext(ctx, "a new key that signs tokens can't be saved; the old one goes on", slog.Any("error", err))
			}
		}
		set, err := newKeySet(rec)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", keysKey, err)
		}
		return r.put(set, look), nil
	}
}

// read returns the record, which is empty if there's none.
func (r *keyring) read(ctx context.Context) (rec keyRecord, version string, err error) {
	data, version, err := r.store.Load(ctx, keysKey)
	if errors.Is(err, fs.ErrNotExist) {
		return keyRecord{}, "", nil
	}
	if err != nil {
		return keyRecord{}, "", err
	}
	if json.Unmarshal(data, &rec) != nil { // whose text could be of a key
		return keyRecord{}, "", fmt.Errorf("%s isn't JSON", keysKey)
	}
	return rec, version, nil
}

func (r *keyring) save(ctx context.Context, rec keyRecord, version string) error {
	data, err := json.Marshal(rec)
	if err != nil {
		return err
	}
	_, err = r.store.Save(ctx, keysKey, data, version)
	return err
}

// rotated returns what the record has to be, and whether it isn't.
func (r *keyring) rotated(rec keyRecord, now time.Time) (keyRecord, bool) {
	if len(rec.Keys) == 0 {
		return keyRecord{rand.Text(), []keptKey{newKey(now)}}, true
	}
	newest := time.Unix(rec.Keys[len(rec.Keys)-1].Begin, 0)
	if now.Before(newest.Add(r.rotateEvery - lead)) {
		return rec, false
	}
	begin := newest.Add(r.rotateEvery)
	if begin.Before(now.Add(lead)) { // nobody was there to do it in time
		begin = now.Add(lead)
	}
	next := keyRecord{Issuer: rec.Issuer}
	for i, k := range rec.Keys {
		if i+1 == len(rec.Keys) || now.Before(time.Unix(rec.Keys[i+1].Begin, 0).Add(r.keepFor)) {
			next.Keys = append(next.Keys, k)
		}
	}
	next.Keys = append(next.Keys, newKey(begin))
	return next, true
}

func newKey(begin time.Time) keptKey {
	seed := make([]byte, ed25519.SeedSize)
	_, _ = rand.Read(seed) // it never fails
	return keptKey{ID: rand.Text()[:8], Seed: seed, Begin: begin.Unix()}
}

// replace makes a new key sign at once, and forgets all others. A load that has seen
// those, and ends later, doesn't bring them back.
func (r *keyring) replace(ctx context.Context) error {
	for {
		rec, version, err := r.read(ctx)
		if err != nil {
			return err
		}
		next := keyRecord{rec.Issuer, []keptKey{newKey(time.Now())}}
		if next.Issuer == "" {
			next.Issuer = rand.Text()
		}
		set, err := newKeySet(next)
		if err != nil {
			return err
		}
		if err = r.save(ctx, next, version); err == nil {
			r.put(set, r.look())
		}
		if !errors.Is(err, keep.ErrChanged) {
			return err
		}
	}
}

// ReplaceKeys has a new key sign, and ends every token that was ever given, refresh
// tokens included: for when a key has become known. Other replicas notice within five seconds.
func (s *Service) ReplaceKeys(ctx context.Context) error {
	err := s.ring.replace(ctx)
	s.verified.Purge()
	return err
}
