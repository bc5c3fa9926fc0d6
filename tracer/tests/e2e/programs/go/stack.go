package main

import (
	"crypto/tls"
	"fmt"
	"math/rand"
	"net"
	"runtime"
	"runtime/debug"
	"strings"
	"sync"
	"time"
)

// Pairs of goroutines that talk HTTP by hand, each on a connection, with buffers on their stacks. Between their calls
// stacks grow by recursion; while they wait, the collector shrinks them.
func stack(certificate, key string, pairs, count int) {
	pair, err := tls.LoadX509KeyPair(certificate, key)
	check(err)
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	check(err)
	awaitStart()
	debug.SetGCPercent(1)
	go func() {
		for {
			runtime.GC()
			time.Sleep(time.Millisecond)
		}
	}()
	var all sync.WaitGroup
	go func() {
		for {
			accepted, err := listener.Accept()
			check(err)
			go serve(tls.Server(accepted, &tls.Config{Certificates: []tls.Certificate{pair}}))
		}
	}()
	for index := 0; index < pairs; index++ {
		all.Add(1)
		go func(index int) {
			defer all.Done()
			dialed, err := net.Dial("tcp", listener.Addr().String())
			check(err)
			ask(tls.Client(dialed, &tls.Config{InsecureSkipVerify: true}), index, count)
		}(index)
	}
	all.Wait()
	done()
}

// The buffer stays on the stack, as crypto/tls only copies into it.
//
//go:noinline
func receive(conn *tls.Conn) (string, bool) {
	var buffer [700]byte
	n, err := conn.Read(buffer[:])
	return string(buffer[:n]), err == nil
}

// Nobody else knows of these bytes, so they may be gone when the call returns.
//
//go:noinline
func send(conn *tls.Conn, text string) {
	_, err := conn.Write([]byte(text))
	check(err)
}

func serve(conn *tls.Conn) {
	check(conn.Handshake())
	random := rand.New(rand.NewSource(time.Now().UnixNano()))
	for {
		deeper(random.Intn(300), func() {})
		var request string
		ok := false
		deeper(random.Intn(30), func() { request, ok = receive(conn) })
		if !ok {
			conn.Close()
			return
		}
		target := strings.Split(request, " ")[1]
		body := strings.Repeat(target, random.Intn(8))
		head := fmt.Sprintf("HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n", len(body))
		log(entry{"server", conn.LocalAddr().String(), conn.RemoteAddr().String(), target, "1.1", 200, 0, len(body)})
		deeper(random.Intn(300), func() { send(conn, head+body) })
	}
}

func ask(conn *tls.Conn, index, count int) {
	random := rand.New(rand.NewSource(int64(index)))
	for number := 0; number < count; number++ {
		target := fmt.Sprintf("/stack/%d/%d", index, number)
		deeper(random.Intn(300), func() { send(conn, "GET "+target+" HTTP/1.1\r\nHost: localhost\r\n\r\n") })
		deeper(random.Intn(300), func() {})
		var response string
		deeper(random.Intn(30), func() { response, _ = receive(conn) })
		body := response[strings.Index(response, "\r\n\r\n")+4:]
		log(entry{"client", conn.LocalAddr().String(), conn.RemoteAddr().String(), target, "1.1", 200, 0, len(body)})
	}
	conn.Close()
}
