package ociregistry

import (
	"hash/maphash"
	"net/http"
	"sync"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/hashicorp/golang-lru/v2/simplelru"

	"github.com/caddy-oci/oci-registry/authz"
	"github.com/caddy-oci/oci-registry/authz/authn"
	"github.com/caddy-oci/oci-registry/internal/clientaddr"
)

// loginPool has what is known of logins at the registries of a configuration, by
// name and limits. It outlives configurations, so a reload is no fresh start for who guesses.
var loginPool = caddy.NewUsagePool()

// logins are the logins at the registries of one name, those that failed and those
// that didn't.
type logins struct {
	*authn.Limits

	seed maphash.Seed

	mu   sync.Mutex
	seen *simplelru.LRU[login, time.Time] // the first use of each
}

// login is somebody at an address, with one of their credentials, of which a hash is known.
type login struct {
	provider, id, client string
	credential           uint64
}

// What is used after loginLife is a login again.
const (
	maxLogins = 16 << 10
	loginLife = 12 * time.Hour
)

// acquireLogins takes a share in the logins of a name within limits. Once everybody has
// released theirs they are forgotten.
func acquireLogins(name string, limits *LoginLimits) (l *logins, release func()) {
	made := &logins{Limits: authn.NewLimits(limits.options()), seed: maphash.MakeSeed()}
	made.seen, _ = simplelru.NewLRU[login, time.Time](maxLogins, nil) // it's positive
	key := limitsKey(name, limits)
	shared, _ := loginPool.LoadOrStore(key, made)
	l, _ = shared.(*logins)
	return l, sync.OnceFunc(func() { _, _ = loginPool.Delete(key) }) // there's nothing to be closed
}

// isFirst reports whether nobody has sent what r was signed with, for a while.
func (l *logins) isFirst(r *http.Request, who authz.Identity) bool {
	at := login{who.Provider, who.ID, clientaddr.Of(r).String(), maphash.String(l.seed, r.Header.Get("Authorization"))}
	now := time.Now()
	l.mu.Lock()
	defer l.mu.Unlock()
	if since, ok := l.seen.Get(at); ok && now.Sub(since) < loginLife {
		return false
	}
	l.seen.Add(at, now)
	return true
}
