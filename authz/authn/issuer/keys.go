package issuer

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/rsa"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"os"
	"slices"

	"github.com/go-jose/go-jose/v4"
)

const (
	maxKeys    = 100
	minRSABits = 2048
)

// verifyWith returns what a token says if one of the keys has signed it. A key ID in
// the token is believed: other keys aren't tried. What the token's header says
// beyond it, such as keys of its own, isn't looked at.
func verifyWith(keys []jose.JSONWebKey, jws *jose.JSONWebSignature) ([]byte, bool) {
	header := jws.Signatures[0].Protected
	for i := range keys {
		k := &keys[i]
		if header.KeyID != "" && k.KeyID != "" && header.KeyID != k.KeyID {
			continue
		}
		if k.Algorithm != "" && k.Algorithm != header.Algorithm {
			continue
		}
		if payload, err := jws.Verify(k.Key); err == nil {
			return payload, true
		}
	}
	return nil, false
}

// parseKeys returns those keys of a JWK set that can verify a token. The others are
// passed over: sets have keys for encryption, and of kinds that aren't known here.
func parseKeys(data []byte) ([]jose.JSONWebKey, error) {
	var set struct {
		Keys []json.RawMessage `json:"keys"`
	}
	if err := json.Unmarshal(data, &set); err != nil {
		return nil, errors.New("not a JWK set")
	}
	var keys []jose.JSONWebKey
	for _, raw := range set.Keys[:min(len(set.Keys), maxKeys)] {
		var k jose.JSONWebKey
		if err := k.UnmarshalJSON(raw); err == nil && isForTokens(k.Use) && isStrong(k.Key) {
			keys = append(keys, k)
		}
	}
	if len(keys) == 0 {
		return nil, errors.New("no key in the JWK set can verify a token")
	}
	return keys, nil
}

// isForTokens reports whether a key of this use signs tokens. SPIFFE's sets have
// those that sign certificates, too.
func isForTokens(use string) bool {
	return use == "" || use == "sig" || use == "jwt-svid"
}

// isStrong reports whether a key is public, and of a kind and size that is trusted.
func isStrong(key crypto.PublicKey) bool {
	switch k := key.(type) {
	case *rsa.PublicKey:
		return k.N.BitLen() >= minRSABits
	case *ecdsa.PublicKey, ed25519.PublicKey:
		return true
	}
	return false
}

func sameKeys(a, b []jose.JSONWebKey) bool {
	return slices.EqualFunc(a, b, func(a, b jose.JSONWebKey) bool {
		key, ok := a.Key.(interface{ Equal(crypto.PublicKey) bool })
		return ok && key.Equal(b.Key) && a.KeyID == b.KeyID && a.Algorithm == b.Algorithm
	})
}

// readKeys returns the keys in a file.
func readKeys(file string) ([]jose.JSONWebKey, error) {
	data, err := os.ReadFile(file) //nolint:gosec // the file that the configuration names
	if err != nil {
		return nil, fmt.Errorf("read the issuer's keys: %w", err)
	}
	parse := parseKeys
	if bytes.Contains(data, []byte("-----BEGIN ")) {
		parse = parsePEM
	}
	keys, err := parse(data)
	if err != nil {
		return nil, fmt.Errorf("keys of an issuer in %s: %w", file, err)
	}
	return keys, nil
}

func parsePEM(data []byte) ([]jose.JSONWebKey, error) {
	var keys []jose.JSONWebKey
	for block, rest := pem.Decode(data); block != nil; block, rest = pem.Decode(rest) {
		key, err := parseBlock(block)
		if err != nil {
			return nil, err
		}
		if !isStrong(key) {
			return nil, fmt.Errorf("a key that is too short, or of a kind that isn't known: %T", key)
		}
		keys = append(keys, jose.JSONWebKey{Key: key})
	}
	if len(keys) == 0 {
		return nil, errors.New("no PEM in it")
	}
	return keys, nil
}

func parseBlock(block *pem.Block) (crypto.PublicKey, error) {
	switch block.Type {
	case "PUBLIC KEY":
		return x509.ParsePKIXPublicKey(block.Bytes)
	case "RSA PUBLIC KEY":
		return x509.ParsePKCS1PublicKey(block.Bytes)
	case "CERTIFICATE":
		cert, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return nil, err
		}
		return cert.PublicKey, nil
	}
	return nil, fmt.Errorf("want public keys or certificates, not %s", block.Type)
}
