package issuertest

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"net/http"
	"net/url"
	"strings"
	"time"
)

// Login is what an Issuer does when somebody signs in.
type Login struct {
	ClientID, ClientSecret string

	// Discovery, IDToken and UserInfo change what it says: nil removes.
	Discovery, IDToken, UserInfo map[string]any

	// Forge is given the ID token's claims last, and may return what is sent instead
	// of a token that the issuer signs.
	Forge func(claims map[string]any) string

	// Answer changes how somebody is sent back.
	Answer func(query url.Values)

	// Disabled refuses refresh tokens.
	Disabled bool
}

// grant is what a code or a refresh token is for.
type grant struct{ nonce, challenge, redirect string }

func (i *Issuer) authorize(w http.ResponseWriter, r *http.Request) {
	q := r.URL.Query()
	back, err := url.Parse(q.Get("redirect_uri"))
	if err != nil || q.Get("client_id") != i.Login.ClientID || q.Get("response_type") != "code" ||
		q.Get("code_challenge_method") != "S256" || len(q.Get("code_challenge")) != 43 || q.Get("state") == "" {
		http.Error(w, "invalid_request", http.StatusBadRequest)
		return
	}
	code := rand.Text()
	i.mu.Lock()
	i.codes[code] = grant{q.Get("nonce"), q.Get("code_challenge"), q.Get("redirect_uri")}
	i.mu.Unlock()
	to := url.Values{"code": {code}, "state": {q.Get("state")}}
	if i.Login.Answer != nil {
		i.Login.Answer(to)
	}
	back.RawQuery = to.Encode()
	http.Redirect(w, r, back.String(), http.StatusFound) //nolint:gosec // a test sends it to itself
}

func (i *Issuer) token(w http.ResponseWriter, r *http.Request) {
	id, secret, basic := r.BasicAuth()
	if !basic {
		id, secret = r.FormValue("client_id"), r.FormValue("client_secret")
	}
	if id != i.Login.ClientID || secret != i.Login.ClientSecret && r.FormValue("client_assertion") == "" {
		answer(w, http.StatusUnauthorized, map[string]any{"error": "invalid_client"})
		return
	}
	g, ok := i.redeem(r)
	if !ok {
		answer(w, http.StatusBadRequest, map[string]any{
			"error": "invalid_grant", "error_description": "secret text of an issuer",
		})
		return
	}
	claims := i.Claims(i.Login.ClientID, nil)
	if g.nonce != "" {
		claims["nonce"] = g.nonce
	}
	change(claims, i.Login.IDToken)
	raw := ""
	if i.Login.Forge != nil {
		raw = i.Login.Forge(claims)
	}
	if raw == "" {
		raw, _ = i.Key().sign(claims, nil) // an empty one fails the test
	}
	again := rand.Text()
	i.mu.Lock()
	i.refresh[again] = grant{}
	i.mu.Unlock()
	answer(w, http.StatusOK, map[string]any{
		"access_token": "access", "token_type": "Bearer", "expires_in": 300,
		"id_token": raw, "refresh_token": again,
	})
}

// redeem takes a code, or a refresh token, which can be used once.
func (i *Issuer) redeem(r *http.Request) (grant, bool) {
	i.mu.Lock()
	defer i.mu.Unlock()
	if r.FormValue("grant_type") == "refresh_token" {
		g, ok := i.refresh[r.FormValue("refresh_token")]
		delete(i.refresh, r.FormValue("refresh_token"))
		return g, ok && !i.Login.Disabled
	}
	g, ok := i.codes[r.FormValue("code")]
	delete(i.codes, r.FormValue("code"))
	sum := sha256.Sum256([]byte(r.FormValue("code_verifier")))
	challenge := base64.RawURLEncoding.EncodeToString(sum[:])
	return g, ok && g.challenge == challenge && g.redirect == r.FormValue("redirect_uri")
}

func (i *Issuer) userInfo(w http.ResponseWriter, r *http.Request) {
	if strings.TrimPrefix(r.Header.Get("Authorization"), "Bearer ") != "access" {
		http.Error(w, "no", http.StatusUnauthorized)
		return
	}
	answer(w, http.StatusOK, change(map[string]any{"sub": "somebody"}, i.Login.UserInfo))
}

// Expired is a time that was an hour ago, as a claim.
func Expired() int64 { return time.Now().Add(-time.Hour).Unix() }
