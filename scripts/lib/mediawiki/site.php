<?php
/*
 * Settings of one wiki. Every path starts at __DIR__, so that a clone of the directory is a working wiki as it is.
 */
if ( !defined( 'MEDIAWIKI' ) ) {
	exit;
}

$wgSitename = 'Quick Start Wiki';
$wgServer = '@SERVER@';
$wgScriptPath = '';
$wgArticlePath = '/wiki/$1';
$wgLanguageCode = 'en';
$wgDefaultSkin = 'vector';

$wgDBtype = 'sqlite';
$wgDBname = 'wiki';
$wgSQLiteDataDir = __DIR__ . '/database';

$wgEnableUploads = true;
$wgUploadDirectory = __DIR__ . '/images';
$wgUploadPath = '/images';

# A page view must need no write lock: then nobody who reads waits while the database is copied or updated. So no
# cache lives in the database, jobs are run by runJobs.php and not by visitors, and messages are PHP files in cache/,
# which belong to this generation because they hold the texts of this platform's version.
$wgMainCacheType = CACHE_NONE;
$wgParserCacheType = CACHE_NONE;
$wgMessageCacheType = CACHE_NONE;
$wgSessionCacheType = CACHE_DB;
$wgJobRunRate = 0;
$wgCacheDirectory = __DIR__ . '/cache';
$wgLocalisationCacheConf['store'] = 'array';
$wgLocalisationCacheConf['storeDirectory'] = __DIR__ . '/cache';

# The visitor of scripts/quickstart who writes all the time is no vandal.
$wgRateLimitsExcludedIPs = [ '127.0.0.1' ];

$wgEnableEmail = false;
$wgPingback = false;
