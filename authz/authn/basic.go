package authn

import (
	"encoding/base64"
	"fmt"
	"net/http"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/caddy-oci/oci-registry/authz"
)

// maxBasic is the longest that the credentials of a header Authorization may be, in
// bytes as they are sent. A password may be a JWT, and those have thousands of bytes.
const maxBasic = 32 << 10

// Basic is the Method of a name and a password in the header Authorization (RFC 7617),
// which Source knows. Only Source is required.
type Basic struct {
	Source Source

	// Realm is what a person is told that asks for a password. Default: "registry".
	Realm string
}

var (
	_ Method     = Basic{}
	_ Challenger = Basic{}
)

// Identify implements Method.
func (b Basic) Identify(r *http.Request) (authz.Identity, bool, error) {
	user, password, found, err := Password(r)
	if !found || err != nil {
		return authz.Identity{}, found, err
	}
	who, err := b.Source.Authenticate(r.Context(), user, password)
	if err != nil {
		return authz.Identity{}, true, err
	}
	return who, true, nil
}

// Challenge implements Challenger.
func (b Basic) Challenge(*http.Request) string {
	realm := b.Realm
	if realm == "" {
		realm = "registry"
	}
	return `Basic realm="` + quote(realm) + `", charset="UTF-8"`
}

// Password returns the name and the password in r's header Authorization. found is
// false if there are none: no header, one of another scheme, or an empty name with an
// empty password, which some clients send for lack of better. What isn't as RFC 7617
// has it is found, and an error that is ErrRefused: base64 that isn't, text that isn't
// UTF-8 or has control characters, no colon, several headers, more than 32 KiB.
func Password(r *http.Request) (user, password string, found bool, err error) {
	values := r.Header["Authorization"]
	if len(values) == 0 {
		return "", "", false, nil
	}
	if len(values) > 1 {
		return "", "", true, errSeveral
	}
	encoded, isBasic := cutBasic(values[0])
	if !isBasic {
		return "", "", false, nil
	}
	if len(encoded) > maxBasic {
		return "", "", true, errTooLong
	}
	var room [256]byte // for what is usual
	raw, err := base64.StdEncoding.AppendDecode(room[:0], []byte(encoded))
	if err != nil {
		return "", "", true, errMalformed // without err: it would say where the password ends
	}
	user, password, hasColon := strings.Cut(string(raw), ":")
	if !hasColon || !isText(user) || !isText(password) {
		return "", "", true, errMalformed
	}
	if user == "" && password == "" {
		return "", "", false, nil
	}
	return user, password, true, nil
}

var (
	errMalformed = fmt.Errorf("%w: the header Authorization isn't as RFC 7617 has it", ErrRefused)
	errTooLong   = fmt.Errorf("%w: the header Authorization is longer than %d bytes", ErrRefused, maxBasic)
)

// cutBasic returns what follows the scheme, if that is Basic.
func cutBasic(value string) (credentials string, isBasic bool) {
	scheme, rest, _ := strings.Cut(value, " ")
	if !strings.EqualFold(scheme, "Basic") {
		return "", false
	}
	return strings.Trim(rest, " "), true
}

// isText reports whether s may be a name or a password (RFC 7617, section 2).
func isText(s string) bool {
	return utf8.ValidString(s) && !strings.ContainsFunc(s, unicode.IsControl)
}

// quote makes s the inside of a quoted-string (RFC 9110, section 5.6.4). Control
// characters can't be in one.
func quote(s string) string {
	var b strings.Builder
	for _, c := range s {
		if unicode.IsControl(c) {
			continue
		}
		if c == '"' || c == '\\' {
			b.WriteByte('\\')
		}
		b.WriteRune(c)
	}
	return b.String()
}
