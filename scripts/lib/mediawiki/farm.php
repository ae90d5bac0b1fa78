<?php
/*
 * LocalSettings.php of a platform that carries many wikis, each in sites/SITE.
 *
 * The site is named by SITEFS_SITE (a parameter of the web server, or the environment of a command), by --wiki=SITE
 * on a command line, or by the host. A command may also be given the site's directory itself in SITEFS_SITE_DIR.
 */
if ( !defined( 'MEDIAWIKI' ) ) {
	exit;
}

function platformFail( string $why ): void {
	if ( PHP_SAPI === 'cli' ) {
		fwrite( STDERR, "LocalSettings.php: $why\n" );
		exit( 1 );
	}
	http_response_code( 404 );
	exit( 'There is no such wiki here.' );
}

function platformSiteName(): string {
	$name = $_SERVER['SITEFS_SITE'] ?? ( getenv( 'SITEFS_SITE' ) ?: null );
	$name ??= defined( 'MW_WIKI_NAME' ) ? MW_WIKI_NAME : null;
	$name ??= preg_replace( '/:\d+$/', '', $_SERVER['HTTP_HOST'] ?? '' );
	if ( !preg_match( '/^[a-z0-9][a-z0-9._-]*$/i', $name ) ) {
		platformFail( 'which site? Set SITEFS_SITE to its name.' );
	}
	return $name;
}

/*
 * The real directory of the site. sites/SITE is a link that a release moves, and PHP remembers for two minutes where
 * a path led (realpath_cache_ttl): readlink() asks the file system every time. What the link points at is one
 * generation, whose path never gets other content, so caches keyed by it (opcache, realpath) cannot be stale.
 */
function platformSiteDirectory(): string {
	$given = PHP_SAPI === 'cli' ? getenv( 'SITEFS_SITE_DIR' ) : false;
	$path = $given ?: __DIR__ . '/sites/' . platformSiteName();
	for ( $links = 0; $links < 8 && is_link( $path ); $links++ ) {
		$target = readlink( $path );
		if ( $target === false ) {
			break;
		}
		$path = $target[0] === '/' ? $target : dirname( $path ) . '/' . $target;
		clearstatcache();
	}
	$real = realpath( $path );
	if ( $real === false || !is_file( "$real/LocalSettings.php" ) ) {
		platformFail( "no site at $path" );
	}
	return $real;
}

$platform = require __DIR__ . '/platform.php';
$siteDirectory = platformSiteDirectory();

wfLoadSkin( 'Vector' );
foreach ( $platform['extensions'] as $extension ) {
	wfLoadExtension( $extension );
}

/*
 * Who answers? X-Platform comes from a file in opcache, at the start of the request. At its end, when the page is
 * complete, X-Release is read from the disk and X-Schema asks the database. Two releases in one answer would show.
 */
if ( PHP_SAPI !== 'cli' ) {
	header( "X-Platform: {$platform['name']}" );
	header( 'X-Generation: ' . basename( $siteDirectory ) );
	$wgHooks['BeforePageDisplay'][] = static function () {
		$database = MediaWiki\MediaWikiServices::getInstance()->getDBLoadBalancer()->getConnection( DB_REPLICA );
		header( 'X-Release: ' . trim( file_get_contents( __DIR__ . '/RELEASE' ) ) );
		header( 'X-Schema: ' . ( $database->tableExists( 'abuse_filter', __METHOD__ ) ? 'new' : 'old' ) );
	};
}

require "$siteDirectory/LocalSettings.php";
