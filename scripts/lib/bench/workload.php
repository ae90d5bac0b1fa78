<?php
/*
 * Work on one file, and how much of it was done in a second.
 *
 * usage: workload.php random-writes|sqlite-delete|sqlite-wal FILE
 *        workload.php follow LINK SECONDS
 */
[ , $work, $file ] = $argv;

/** Writes of 4 KiB at random places of a file of 16 MiB, each followed by fsync. */
function randomWrites( string $file ): float {
	mt_srand( 7 );
	file_put_contents( $file, str_repeat( "\0", 16 << 20 ) );
	$handle = fopen( $file, 'r+' );
	fsync( $handle );
	$count = 300;
	$block = random_bytes( 4096 );
	$start = hrtime( true );
	for ( $i = 0; $i < $count; $i++ ) {
		fseek( $handle, 4096 * mt_rand( 0, 4095 ) );
		fwrite( $handle, $block );
		fflush( $handle );
		fsync( $handle );
	}
	$seconds = ( hrtime( true ) - $start ) / 1e9;
	fclose( $handle );
	unlink( $file );
	return $count / $seconds;
}

/** Transactions of three writes to a table of 5,000 rows with an index. */
function transactions( string $file, string $journal ): float {
	mt_srand( 7 );
	$database = new SQLite3( $file );
	$database->exec( "PRAGMA journal_mode = $journal" );
	$database->exec( 'CREATE TABLE page (id INTEGER PRIMARY KEY, title TEXT, touched INTEGER, body TEXT)' );
	$database->exec( 'CREATE INDEX titles ON page (title)' );
	$database->exec( 'BEGIN' );
	for ( $i = 1; $i <= 5000; $i++ ) {
		$database->exec( "INSERT INTO page VALUES ($i, 'title $i', 0, '" . str_repeat( 'x', 200 ) . "')" );
	}
	$database->exec( 'COMMIT' );
	$count = 200;
	$start = hrtime( true );
	for ( $i = 0; $i < $count; $i++ ) {
		$database->exec( 'BEGIN IMMEDIATE' );
		for ( $j = 0; $j < 3; $j++ ) {
			$id = mt_rand( 1, 5000 );
			$database->exec( "UPDATE page SET touched = $i, title = 'title $id of $i' WHERE id = $id" );
		}
		$database->exec( 'COMMIT' );
	}
	$seconds = ( hrtime( true ) - $start ) / 1e9;
	$database->close();
	foreach ( [ '', '-wal', '-shm', '-journal' ] as $suffix ) {
		if ( file_exists( $file . $suffix ) ) {
			unlink( $file . $suffix );
		}
	}
	return $count / $seconds;
}

/** What a web server does with the link of a site, over and over: the time that 99 of 100 need, in seconds. */
function follow( string $link, float $limit ): float {
	$end = hrtime( true ) + (int)( $limit * 1e9 );
	$times = [];
	do {
		$start = hrtime( true );
		clearstatcache( true );
		$real = realpath( $link );
		if ( $real === false || file_get_contents( "$real/RELEASE" ) === false ) {
			fwrite( STDERR, "no site at $link\n" );
			exit( 1 );
		}
		$now = hrtime( true );
		$times[] = $now - $start;
	} while ( $now < $end );
	sort( $times );
	return $times[(int)( count( $times ) * 0.99 )] / 1e9;
}

printf( '%.6f', match ( $work ) {
	'random-writes' => randomWrites( $file ),
	'sqlite-delete' => transactions( $file, 'DELETE' ),
	'sqlite-wal' => transactions( $file, 'WAL' ),
	'follow' => follow( $file, (float)$argv[3] ),
} );
