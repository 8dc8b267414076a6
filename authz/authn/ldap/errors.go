package ldap

import (
	"errors"
	"slices"

	"github.com/go-ldap/ldap/v3"
)

// errSlow is what a server is told off for that doesn't answer in time.
var errSlow = errors.New("too slow")

// refusals are the answers to a bind that say that this user may not come in, for one
// reason or another: a wrong password, a locked or expired account, an entry without
// a password or without the right to bind, or one that's gone since it was found.
var refusals = []uint16{
	ldap.LDAPResultInvalidCredentials, ldap.LDAPResultInappropriateAuthentication,
	ldap.LDAPResultInsufficientAccessRights, ldap.LDAPResultUnwillingToPerform,
	ldap.LDAPResultConstraintViolation, ldap.LDAPResultNoSuchObject,
}

// A dialError is why there's no connection to make a request on. It may come from a
// server's answer, but to StartTLS, or to the account that searches: it must not be
// mistaken for an answer to the request.
type dialError struct{ error }

// Unwrap returns the error itself.
func (e dialError) Unwrap() error { return e.error }

// isAnswer reports whether err is a server's answer to a request with one of the codes,
// or with any if none is given. A connection may be used again after it.
func isAnswer(err error, codes ...uint16) bool {
	if _, ok := errors.AsType[dialError](err); ok {
		return false
	}
	answer, ok := errors.AsType[*ldap.Error](err)
	if !ok {
		return false
	}
	code := answer.ResultCode
	if errors.Is(err, ldap.ErrSizeLimitExceeded) { // found out on this side
		code = ldap.LDAPResultSizeLimitExceeded
	}
	return code < ldap.ErrorNetwork && (len(codes) == 0 || slices.Contains(codes, code))
}

// isAway reports whether a server says that it can't serve now. Another one may.
func isAway(err error) bool {
	return isAnswer(err, ldap.LDAPResultBusy, ldap.LDAPResultUnavailable)
}

// isTooMany reports whether a search found more than it was asked for.
func isTooMany(err error) bool { return isAnswer(err, ldap.LDAPResultSizeLimitExceeded) }
