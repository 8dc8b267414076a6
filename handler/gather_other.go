//go:build !linux

package handler

import "syscall"

func cork(syscall.RawConn, bool) {}
